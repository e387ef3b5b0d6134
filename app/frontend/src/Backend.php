<?php

declare(strict_types=1);

namespace Lab\Frontend;

/**
 * The backend's API, reached through nginx on this machine: nginx finds the instances by DNS, verifies them and
 * tries the next one when one fails. This process itself has no network.
 */
final class Backend
{
    private const LARGEST_ANSWER = 1 << 20;

    /** @param string $address nginx, as tcp://host:port or unix:///path; $timeout in seconds for a whole answer */
    public function __construct(private readonly string $address, private readonly float $timeout)
    {
    }

    public function get(string $path): Answer
    {
        return $this->ask('GET', $path, null);
    }

    /** @param array<string, mixed> $body */
    public function post(string $path, array $body): Answer
    {
        return $this->ask('POST', $path, json_encode($body, JSON_THROW_ON_ERROR | JSON_UNESCAPED_UNICODE));
    }

    public function delete(string $path): Answer
    {
        return $this->ask('DELETE', $path, null);
    }

    private function ask(string $method, string $path, ?string $body): Answer
    {
        $context = stream_context_create(['http' => [
            'method' => $method,
            'proxy' => $this->address,
            'header' => ['Accept: application/json', 'Content-Type: application/json', 'Connection: close'],
            'content' => $body ?? '',
            'timeout' => $this->timeout,
            'ignore_errors' => true,
            'follow_location' => 0,
            'protocol_version' => 1.1,
        ]]);
        // A refused connection is an answer here (status 0), not a warning.
        $stream = @fopen('http://localhost' . $path, 'r', false, $context);
        if ($stream === false) {
            return new Answer(0, null, '');
        }
        $text = (string) stream_get_contents($stream, self::LARGEST_ANSWER);
        $meta = stream_get_meta_data($stream);
        fclose($stream);

        $status = 0;
        $instance = '';
        foreach ((array) ($meta['wrapper_data'] ?? []) as $line) {
            if (preg_match('{^HTTP/\S+ (\d{3})}', $line, $match) === 1) {
                $status = (int) $match[1];
            } elseif (preg_match('{^X-Instance:\s*(\S+)}i', $line, $match) === 1) {
                $instance = $match[1];
            }
        }
        $data = json_decode($text, true);

        return new Answer($status, is_array($data) ? $data : null, $instance);
    }
}
