<?php

declare(strict_types=1);

namespace Lab\Frontend;

/** What the page shows: the backend's answers, with a value for everything that may be missing in them. */
final class State
{
    /**
     * @param list<array{name: string, address: string, version: string, state: string, database: string}> $instances
     * @param list<array{id: int, text: string, created_at: string, instance: string}>|null $notes null: not readable
     */
    private function __construct(
        public readonly ?string $problem,
        public readonly string $answeredBy,
        public readonly string $version,
        public readonly string $greeting,
        public readonly string $database,
        public readonly string $databaseUser,
        public readonly string $databaseServer,
        public readonly ?float $secretsAge,
        public readonly int $count,
        public readonly array $instances,
        public readonly ?array $notes,
    ) {
    }

    public static function read(Backend $backend): self
    {
        $status = $backend->get('/api/status');
        if (!$status->fromBackend()) {
            return new self('backend', '', '', '', 'unknown', '', '', null, 0, [], null);
        }
        $instances = $backend->get('/api/instances');
        $rows = self::rows($instances->data['instances'] ?? null);
        $database = self::database($status->data['database'] ?? null);
        // Without its database the backend waits before it says no; the reader need not.
        $readable = $database !== 'down' || ($status->data['database']['readable'] ?? false) === true;
        $notes = !$readable ? new Answer(0, null, '') : $backend->get('/api/notes');

        $secrets = $status->data['secrets'] ?? [];
        $ages = is_array($secrets) ? array_filter(array_column($secrets, 'age_seconds'), is_numeric(...)) : [];

        return new self(
            match (true) {
                !$readable => 'database',
                !$instances->ok() => 'instances',
                !$notes->ok() => 'notes',
                $database === 'down' || array_filter($rows, self::cannotWrite(...)) !== [] => 'writes',
                $database === 'ending' => 'credentials',
                default => null,
            },
            $status->instance,
            self::text($status->data['version'] ?? null),
            self::text($status->data['greeting'] ?? null),
            $database,
            self::text($status->data['database']['user'] ?? null),
            self::text($status->data['database']['server'] ?? null),
            $ages === [] ? null : (float) min($ages),
            (int) ($instances->data['count'] ?? 0),
            array_map(self::instance(...), $rows),
            $notes->ok() ? array_map(self::note(...), self::rows($notes->data['notes'] ?? null)) : null,
        );
    }

    /**
     * @param array<mixed> $row
     * @return array{name: string, address: string, version: string, state: string, database: string}
     */
    public static function instance(array $row): array
    {
        $port = self::text($row['port'] ?? null);

        return [
            'name' => self::text($row['name'] ?? null),
            'address' => self::text($row['address'] ?? null) . ($port === '' ? '' : ':' . $port),
            'version' => self::text($row['version'] ?? null),
            'state' => self::text($row['state'] ?? null, 'unknown'),
            'database' => self::database($row['database'] ?? null),
        ];
    }

    /**
     * Whether an instance's database refused a note a moment ago.
     *
     * @param array<mixed> $row
     */
    private static function cannotWrite(array $row): bool
    {
        return self::text($row['database']['write_error'] ?? null) !== '';
    }

    /** How an instance sees its database, in a word: up, ending (its credentials are not renewed), down or unknown. */
    private static function database(mixed $seen): string
    {
        $seen = is_array($seen) ? $seen : [];
        $status = self::text($seen['status'] ?? null, 'unknown');

        return $status === 'up' && ($seen['credentials_ending'] ?? false) === true ? 'ending' : $status;
    }

    /**
     * @param array<mixed> $row
     * @return array{id: int, text: string, created_at: string, instance: string}
     */
    public static function note(array $row): array
    {
        return [
            'id' => (int) ($row['id'] ?? 0),
            'text' => self::text($row['text'] ?? null),
            'created_at' => self::text($row['created_at'] ?? null),
            'instance' => self::text($row['instance'] ?? null),
        ];
    }

    /** @return list<array<mixed>> */
    private static function rows(mixed $value): array
    {
        return is_array($value) ? array_values(array_filter($value, is_array(...))) : [];
    }

    private static function text(mixed $value, string $otherwise = ''): string
    {
        return is_scalar($value) && (string) $value !== '' ? (string) $value : $otherwise;
    }
}
