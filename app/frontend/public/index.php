<?php

/**
 * The page. GET shows what the backend says at this moment, so that the first view needs no script; POST is the
 * notes form of a browser without script.
 */

declare(strict_types=1);

namespace Lab\Frontend;

require __DIR__ . '/../src/Answer.php';
require __DIR__ . '/../src/Backend.php';
require __DIR__ . '/../src/Forgery.php';
require __DIR__ . '/../src/State.php';
require __DIR__ . '/../src/html.php';

const LONGEST_NOTE = 500;

$method = $_SERVER['REQUEST_METHOD'] ?? 'GET';
if (!in_array($method, ['GET', 'HEAD', 'POST'], true)) {
    http_response_code(405);
    header('Allow: GET, HEAD, POST');
    exit;
}

// A reader waits for seconds at most; a change has the time that the backend gives its database.
$backend = new Backend(getenv('FRONTEND_API') ?: 'tcp://127.0.0.1:80', $method === 'POST' ? 12.0 : 4.0);
$forgery = Forgery::start(($_SERVER['HTTPS'] ?? '') === 'on');
$draft = '';
$error = '';

if ($method === 'POST') {
    [$status, $error] = handle($backend, $forgery);
    if ($status === 303) {
        http_response_code(303);
        header('Location: /#notes');
        exit;
    }
    http_response_code($status);
    $draft = is_string($_POST['text'] ?? null) ? $_POST['text'] : '';
}

$state = State::read($backend);
require __DIR__ . '/../templates/page.php';

/**
 * Do what a form asks.
 *
 * @return array{int, string} the HTTP status to answer with (303 when it is done), and what went wrong
 */
function handle(Backend $backend, Forgery $forgery): array
{
    if (!$forgery->allows($_SERVER, $_POST)) {
        return [403, 'The form was too old or came from elsewhere. Please send it again.'];
    }
    $delete = $_POST['delete'] ?? null;
    if (is_string($delete)) {
        if (preg_match('/^[1-9][0-9]{0,17}$/', $delete) !== 1) {
            return [422, 'That is not a note of this list.'];
        }
        $answer = $backend->delete('/api/notes/' . $delete);
        // Gone already is what was asked for.
        $done = $answer->ok() || $answer->status === 404;
    } else {
        $text = $_POST['text'] ?? '';
        $text = is_string($text) ? trim($text) : '';
        if ($text === '' || !is_utf8($text) || length($text) > LONGEST_NOTE) {
            return [422, 'A note has 1 to ' . LONGEST_NOTE . ' characters.'];
        }
        $answer = $backend->post('/api/notes', ['text' => $text]);
        $done = $answer->ok();
    }
    if ($done) {
        return [303, ''];
    }
    $status = $answer->status >= 400 && $answer->status < 500 ? 422 : 503;

    return [$status, $answer->message('Nothing answered, so the change may not have been made.')];
}

/** Whether a text is valid UTF-8. */
function is_utf8(string $text): bool
{
    return preg_match('//u', $text) === 1;
}

/** The number of characters of a valid UTF-8 text. */
function length(string $text): int
{
    return (int) preg_match_all('/./us', $text);
}
