<?php

declare(strict_types=1);

namespace Lab\Frontend;

/** A text, safe inside HTML and inside a quoted attribute. */
function e(string|int|float $text): string
{
    return htmlspecialchars((string) $text, ENT_QUOTES | ENT_SUBSTITUTE | ENT_HTML5, 'UTF-8');
}

/** The address of a file in assets/ that changes with its content, so that browsers may keep it for ever. */
function asset(string $name): string
{
    $hash = hash_file('xxh3', __DIR__ . '/../public/assets/' . $name);

    return e('/assets/' . $name . '?v=' . $hash);
}

/** ` hidden` where a thing is not to be seen. */
function hidden_unless(bool $visible): string
{
    return $visible ? '' : ' hidden';
}

/** A moment of the API (ISO 8601) as people read it; the script makes it relative. */
function moment(string $iso): string
{
    $time = date_create_immutable($iso);

    return $time === false ? '' : $time->setTimezone(new \DateTimeZone('UTC'))->format('j M Y, H:i') . ' UTC';
}

/** What the state of an instance is called. The script has the same words, from data-words in the page. */
const STATE_WORDS = [
    'passing' => 'Active',
    'warning' => 'Warning',
    'critical' => 'Failing',
    'maintenance' => 'In maintenance',
    'unknown' => 'Unknown',
];

const DATABASE_WORDS = [
    'up' => 'Connected',
    'ending' => 'Credentials end soon',
    'down' => 'Not reachable',
    'unknown' => 'Unknown',
];
