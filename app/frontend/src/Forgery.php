<?php

declare(strict_types=1);

namespace Lab\Frontend;

/**
 * Guards the forms against being sent by another site: the browser's own word on where a request comes from
 * (Sec-Fetch-Site, Origin), and a random value that must stand both in a SameSite cookie and in the form.
 */
final class Forgery
{
    private function __construct(public readonly string $token)
    {
    }

    /** The visitor's token, kept from an earlier visit or set now. Call before any output. */
    public static function start(bool $https): self
    {
        // Two names, because a page on plain HTTP cannot replace a cookie that HTTPS has set as secure.
        $name = $https ? '__Host-form_token' : 'form_token';
        $token = $_COOKIE[$name] ?? null;
        if (!is_string($token) || preg_match('/^[0-9a-f]{64}$/', $token) !== 1) {
            $token = bin2hex(random_bytes(32));
            setcookie($name, $token, [
                'path' => '/',
                'httponly' => true,
                'samesite' => 'Strict',
                'secure' => $https,
            ]);
        }

        return new self($token);
    }

    /**
     * @param array<mixed> $server $_SERVER
     * @param array<mixed> $form   $_POST
     */
    public function allows(array $server, array $form): bool
    {
        $site = $server['HTTP_SEC_FETCH_SITE'] ?? 'same-origin';
        if (!in_array($site, ['same-origin', 'none'], true)) {
            return false;
        }
        $origin = $server['HTTP_ORIGIN'] ?? null;
        if ($origin !== null) {
            $parts = parse_url((string) $origin);
            $host = is_array($parts) ? ($parts['host'] ?? '') . (isset($parts['port']) ? ':' . $parts['port'] : '') : '';
            if ($host === '' || strcasecmp($host, (string) ($server['HTTP_HOST'] ?? '')) !== 0) {
                return false;
            }
        }
        $sent = $form['form_token'] ?? null;

        return is_string($sent) && hash_equals($this->token, $sent);
    }
}
