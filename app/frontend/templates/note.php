<?php

declare(strict_types=1);

namespace Lab\Frontend;

/** @var array{id: int, text: string, created_at: string, instance: string} $note */
/** @var Forgery $forgery */
?>
<li class="note" data-id="<?= e($note['id']) ?>">
  <p class="note-text" dir="auto" data-is="text"><?= e($note['text']) ?></p>
  <p class="note-meta"><time data-is="time" datetime="<?= e($note['created_at']) ?>"><?= e(moment($note['created_at'])) ?></time>, by <span data-is="instance"><?= e($note['instance']) ?></span></p>
  <form method="post" action="/" class="note-delete">
    <input type="hidden" name="form_token" value="<?= e($forgery->token) ?>">
    <button name="delete" value="<?= e($note['id']) ?>" title="Delete this note">
      <svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true"><path d="M3 4.5h10M6.5 4.5V3h3v1.5M4.5 4.5l.6 8.5h5.8l.6-8.5M6.8 7v3.6M9.2 7v3.6"/></svg>
      <span class="quiet">Delete note: <span data-is="label"><?= e($note['text']) ?></span></span>
    </button>
  </form>
</li>
