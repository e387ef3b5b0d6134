<?php

declare(strict_types=1);

namespace Lab\Frontend;

/** @var State $state */
/** @var Forgery $forgery */
/** @var string $draft */
/** @var string $error */

$host = (string) gethostname();
$words = ['state' => STATE_WORDS, 'database' => DATABASE_WORDS];
$noInstance = ['name' => '', 'address' => '', 'version' => '', 'state' => 'unknown', 'database' => 'unknown'];
$noNote = ['id' => 0, 'text' => '', 'created_at' => '', 'instance' => ''];
$answering = $state->problem !== 'backend';
?>
<!doctype html>
<html lang="en" data-problem="<?= e($state->problem ?? '') ?>">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="theme-color" media="(prefers-color-scheme: light)" content="#f4f5f8">
<meta name="theme-color" media="(prefers-color-scheme: dark)" content="#0e1117">
<meta name="description" content="The three-tier application of HashiStack Lab: its backend instances, its database and its notes.">
<title><?= $answering ? e($state->count) . ' active' : 'No answer' ?> · HashiStack Lab</title>
<link rel="icon" type="image/svg+xml" href="<?= asset('icon.svg') ?>">
<link rel="stylesheet" href="<?= asset('page.css') ?>">
<script type="module" src="<?= asset('page.js') ?>"></script>
</head>
<body data-words="<?= e(json_encode($words, JSON_THROW_ON_ERROR)) ?>">
<a class="skip" href="#main">Skip to the content</a>

<header class="bar">
  <div class="wide">
    <p class="brand">
      <img src="<?= asset('icon.svg') ?>" alt="" width="32" height="32">
      <span>HashiStack <b>Lab</b></span>
    </p>
    <div class="live" id="live" hidden>
      <span class="live-word"><span class="live-dot"></span><span id="live-word">Live</span></span>
      <button type="button" id="pause" class="soft">Pause</button>
    </div>
    <noscript><a class="soft" href="/">Reload</a></noscript>
  </div>
</header>

<main id="main" class="wide">
  <p id="announce" class="quiet" role="status" aria-live="polite"></p>

  <div class="problem" data-problem="backend"<?= hidden_unless($state->problem === 'backend') ?>>
    <h2>No backend instance answers</h2>
    <p>The page itself works, but nothing behind <code>/api/</code> does: Consul knows no healthy address for
      <code><?= e((string) getenv('FRONTEND_BACKEND_NAME')) ?></code>, or none of them takes a connection.
      <span class="scripted">Trying again all the time; this message goes away by itself.</span></p>
  </div>
  <div class="problem mild" data-problem="database"<?= hidden_unless($state->problem === 'database') ?>>
    <h2>The database does not answer</h2>
    <p>The backend instances are running, but PostgreSQL is not reachable from the one that answered. Notes can
      neither be read nor written until it is back.</p>
  </div>
  <div class="problem mild" data-problem="instances"<?= hidden_unless($state->problem === 'instances') ?>>
    <h2>The instances cannot be counted</h2>
    <p>The backend answers, but Consul does not tell it about the other instances. What is shown of them may be old.</p>
  </div>
  <div class="problem mild" data-problem="notes"<?= hidden_unless($state->problem === 'notes') ?>>
    <h2>The notes cannot be read</h2>
    <p>The backend answers, but not with its notes. What is shown of them may be old.</p>
  </div>
  <div class="problem mild" data-problem="writes"<?= hidden_unless($state->problem === 'writes') ?>>
    <h2>Notes cannot be written</h2>
    <p>They can be read, but the database cannot take one: the machine that writes does not answer, or refused one that
      somebody wrote a moment ago, since its disk may be full.</p>
  </div>
  <div class="problem mild" data-problem="credentials"<?= hidden_unless($state->problem === 'credentials') ?>>
    <h2>The database credentials end soon</h2>
    <p>All works, but nothing has renewed the credentials of the instance that answered: it may not have reached Vault for
      a while. When they end, notes can neither be read nor written until it does.</p>
  </div>
  <div class="problem" data-problem="page" hidden>
    <h2>This page has lost its server</h2>
    <p>The browser cannot reach the frontend machine. What you see is what it last said. Trying again all the time.</p>
  </div>

  <section class="hero" aria-labelledby="greeting">
    <div class="hero-text">
      <p class="eyebrow" id="greeting-from"<?= $state->greeting !== '' ? '' : ' data-none' ?>>Greeting from Vault, <code>secret/app</code></p>
      <h1 id="greeting" dir="auto"><?= e($state->greeting !== '' ? $state->greeting : 'HashiStack Lab') ?></h1>
      <p class="answered" id="answered-line"<?= hidden_unless($answering) ?>>Answered by <b id="answered"><?= e($state->answeredBy) ?></b>,
        version <span id="version"><?= e($state->version) ?></span></p>
    </div>
    <p class="count" data-none="<?= $state->count === 0 ? 'yes' : 'no' ?>" id="count-box">
      <strong id="count"><?= e($state->count) ?></strong>
      <span>active backend<br><span id="count-word"><?= $state->count === 1 ? 'instance' : 'instances' ?></span></span>
    </p>
  </section>

  <section aria-labelledby="way-title" class="way-box">
    <h2 id="way-title" class="quiet">The way of this view</h2>
    <ol class="way">
      <li data-step="frontend" data-tone="passing">
        <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M3 5h18v14H3zM3 9h18M6 7h.01M8.5 7h.01"/></svg>
        <p><span class="way-kind">Frontend</span> <b><?= e($host) ?></b> <span class="way-note">nginx and PHP</span></p>
      </li>
      <li data-step="dns" data-tone="<?= $answering ? 'passing' : 'critical' ?>">
        <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M12 12 5 6m7 6 7-6m-7 6v8M5 6h.01M19 6h.01M12 20h.01"/><circle cx="12" cy="12" r="3"/><circle cx="5" cy="5.5" r="2"/><circle cx="19" cy="5.5" r="2"/><circle cx="12" cy="20" r="2"/></svg>
        <p><span class="way-kind">Consul DNS</span> <b>backend.service</b> <span class="way-note"><span id="way-count"><?= e($state->count) ?></span> passing</span></p>
      </li>
      <li data-step="backend" data-tone="<?= $answering ? 'passing' : 'critical' ?>">
        <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M4 4h16v6H4zM4 14h16v6H4zM7.5 7h.01M7.5 17h.01M11 7h5M11 17h5"/></svg>
        <p><span class="way-kind">Backend</span> <b id="way-backend"><?= e($answering ? $state->answeredBy : 'No answer') ?></b> <span class="way-note">Flask over TLS</span></p>
      </li>
      <li data-step="database" data-tone="<?= e($state->database) ?>">
        <svg viewBox="0 0 24 24" aria-hidden="true"><ellipse cx="12" cy="6" rx="7.5" ry="3"/><path d="M4.5 6v12c0 1.7 3.4 3 7.5 3s7.5-1.3 7.5-3V6M4.5 12c0 1.7 3.4 3 7.5 3s7.5-1.3 7.5-3"/></svg>
        <p><span class="way-kind">PostgreSQL</span> <b id="way-database"><?= e(DATABASE_WORDS[$state->database] ?? $state->database) ?></b> <span class="way-note" id="way-server" title="The machine that answered"><?= e($state->databaseServer) ?></span> <span class="way-note" id="way-user" title="Database user"><?= e($state->databaseUser) ?></span></p>
      </li>
    </ol>
  </section>

  <div class="columns">
    <section aria-labelledby="instances-title">
      <header class="section-head">
        <h2 id="instances-title">Backend instances</h2>
        <p>As Consul sees them at this moment</p>
      </header>
      <ul class="instances" id="instances">
<?php foreach ($state->instances as $instance) {
    $answered = $instance['name'] === $state->answeredBy;
    require __DIR__ . '/instance.php';
} ?>
      </ul>
      <p class="empty" id="no-instances"<?= hidden_unless($state->instances === []) ?>>No instance to show.</p>
    </section>

    <section aria-labelledby="notes-title" id="notes">
      <header class="section-head">
        <h2 id="notes-title">Notes</h2>
        <p>Rows in PostgreSQL</p>
      </header>
      <form method="post" action="/" class="add" id="add">
        <input type="hidden" name="form_token" value="<?= e($forgery->token) ?>">
        <label for="text">New note</label>
        <div class="add-row">
          <input id="text" name="text" type="text" required maxlength="<?= LONGEST_NOTE ?>" autocomplete="off" placeholder="Write something down" value="<?= e($draft) ?>" aria-describedby="form-error">
          <button class="main">Add</button>
        </div>
        <p id="form-error" class="form-error" role="alert"<?= hidden_unless($error !== '') ?>><?= e($error) ?></p>
      </form>
      <ul class="notes" id="note-list">
<?php foreach ($state->notes ?? [] as $note) {
    require __DIR__ . '/note.php';
} ?>
      </ul>
      <p class="empty" id="no-notes"<?= hidden_unless($state->notes === []) ?>>No notes yet. The first one is yours.</p>
      <p class="empty" id="unread-notes"<?= hidden_unless($state->notes === null) ?>>The notes are not readable at this moment.</p>
    </section>
  </div>
</main>

<footer class="wide foot">
  <p>Names come from Consul and secrets from Vault; the backend and its database are reached over TLS.
    <span id="secrets-line"<?= hidden_unless($state->secretsAge !== null) ?>>The newest secret of the instance that answered is
    <span id="secrets-age"><?= e((int) $state->secretsAge) ?> s</span> old.</span></p>
</footer>

<template id="instance-template"><?php
$instance = $noInstance;
$answered = false;
require __DIR__ . '/instance.php';
?></template>
<template id="note-template"><?php
$note = $noNote;
require __DIR__ . '/note.php';
?></template>
</body>
</html>
