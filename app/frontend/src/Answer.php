<?php

declare(strict_types=1);

namespace Lab\Frontend;

/** What the backend said to one request; status 0 where nothing answered at all. */
final class Answer
{
    /** @param array<mixed>|null $data the decoded JSON body, null where there was none */
    public function __construct(
        public readonly int $status,
        public readonly ?array $data,
        public readonly string $instance,
    ) {
    }

    public function ok(): bool
    {
        return $this->status >= 200 && $this->status < 300;
    }

    /** Whether a backend instance spoke, be it to say that it has a problem; the proxy's own errors have no instance. */
    public function fromBackend(): bool
    {
        return $this->instance !== '';
    }

    /** The sentence that the answer gives for its error, or the caller's own. */
    public function message(string $otherwise): string
    {
        $error = $this->data['error'] ?? null;
        $message = is_array($error) ? ($error['message'] ?? null) : $error;

        return is_string($message) && $message !== '' ? $message : $otherwise;
    }
}
