<?php

declare(strict_types=1);

namespace Lab\Frontend;

/** @var array{name: string, address: string, version: string, state: string, database: string} $instance */
/** @var bool $answered */
?>
<li class="instance" data-name="<?= e($instance['name']) ?>" data-state="<?= e($instance['state']) ?>"<?= $answered ? ' data-answered' : '' ?>>
  <div class="instance-head">
    <h3 data-is="name"><?= e($instance['name']) ?></h3>
    <span class="state" data-tone="<?= e($instance['state']) ?>" data-is="state"><?= e(STATE_WORDS[$instance['state']] ?? $instance['state']) ?></span>
  </div>
  <dl>
    <div><dt>Address</dt><dd data-is="address"><?= e($instance['address']) ?></dd></div>
    <div><dt>Version</dt><dd data-is="version"><?= e($instance['version']) ?></dd></div>
    <div><dt>Database</dt><dd><span class="mark" data-tone="<?= e($instance['database']) ?>" data-is="database"><?= e(DATABASE_WORDS[$instance['database']] ?? $instance['database']) ?></span></dd></div>
    <div><dt>This view</dt><dd class="here"></dd></div>
  </dl>
</li>
