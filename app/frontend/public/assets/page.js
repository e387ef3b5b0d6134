// Keeps the page true to what the backend says, by asking it again and again. The first view comes from the server;
// this script changes only what differs, so that nothing flickers and the focus stays where it is.

const INTERVAL = 1500; // milliseconds between an answer and the next question
const PATIENCE = 15000; // milliseconds after which a question counts as unanswered

const words = JSON.parse(document.body.dataset.words);
const $ = (id) => document.getElementById(id);

const seen = {}; // the last answer to each question
let paused = false;
let before = null; // what was announced last: {problem, states, notes}

// ---- asking ----

/** One question to the API: {status, data, instance}; status 0 where the page's own server is out of reach. */
async function ask(path, options = {}) {
  try {
    const response = await fetch(path, {
      cache: "no-store",
      signal: AbortSignal.timeout(PATIENCE),
      ...options,
    });
    const text = await response.text();
    let data = null;
    try {
      data = text === "" ? null : JSON.parse(text);
    } catch {
      // Not JSON, so not from the API.
    }
    return { status: response.status, data, instance: response.headers.get("X-Instance") ?? "" };
  } catch (error) {
    return { status: error.name === "TimeoutError" ? 504 : 0, data: null, instance: "" };
  }
}

const ok = (answer) => answer !== undefined && answer.status >= 200 && answer.status < 300;

/** Asks one thing again and again; `now` asks at once, `stop` until then no more. */
function poller(name) {
  let timer = 0;
  let asking = false;
  let again = false;
  const next = () => {
    clearTimeout(timer);
    if (!paused && !document.hidden) {
      timer = setTimeout(now, INTERVAL);
    }
  };
  async function now() {
    if (asking) {
      again = true;
      return;
    }
    asking = true;
    clearTimeout(timer);
    const answer = await ask(`/api/${name}`);
    asking = false;
    // Too many questions at once are no sign of illness: keep what is shown.
    if (answer.status !== 429) {
      seen[name] = answer;
      show();
    }
    if (again) {
      again = false;
      now();
    } else {
      next();
    }
  }
  return { now, stop: () => clearTimeout(timer) };
}

const pollers = ["status", "instances", "notes"].map(poller);
const refresh = () => pollers.forEach((one) => one.now());
const rest = () => pollers.forEach((one) => one.stop());

// ---- showing ----

function setText(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

function setAttribute(element, name, value) {
  if (value === null) {
    element.removeAttribute(name);
  } else if (element.getAttribute(name) !== value) {
    element.setAttribute(name, value);
  }
}

const part = (row, name) => row.querySelector(`[data-is="${name}"]`);

/** Make the list's rows those of `items`, in their order, by key; rows that stay are the same elements as before. */
function setRows(list, template, key, items, fill) {
  const old = new Map([...list.children].map((row) => [row.dataset[key], row]));
  let place = list.firstElementChild;
  for (const item of items) {
    const id = String(item[key]);
    let row = old.get(id);
    old.delete(id);
    const fresh = row === undefined;
    if (fresh) {
      row = template.content.firstElementChild.cloneNode(true);
      row.dataset[key] = id;
    }
    fill(row, item, fresh);
    if (row === place) {
      place = place.nextElementSibling;
    } else {
      list.insertBefore(row, place);
    }
  }
  for (const row of old.values()) {
    // The focus moves on to a neighbour instead of falling back to the top of the page.
    if (row.contains(document.activeElement)) {
      const next = row.nextElementSibling ?? row.previousElementSibling;
      (next?.querySelector("button") ?? $("text")).focus();
    }
    row.remove();
  }
}

/** How an instance sees its database, in a word: up, ending (its credentials are not renewed), down or unknown. */
function databaseOf(seen) {
  return seen?.status === "up" && seen.credentials_ending === true ? "ending" : (seen?.status ?? "unknown");
}

/** Whether notes can be read; a replica may answer where the database does not. */
function readable(database) {
  return database?.status !== "down" || database.readable === true;
}

function problemOf(status, instances, notes) {
  if (status.instance === "") {
    return status.status === 0 ? "page" : "backend";
  }
  if (!readable(status.data?.database)) {
    return "database";
  }
  if (!ok(instances)) {
    return "instances";
  }
  if (!ok(notes)) {
    return "notes";
  }
  const database = databaseOf(status.data?.database);
  if (database === "down" || (instances.data.instances ?? []).some((instance) => instance.database?.write_error)) {
    return "writes";
  }
  return database === "ending" ? "credentials" : "";
}

/** Shows what was seen last; called after each answer, once there is one to each question. */
function show() {
  const { status, instances, notes } = seen;
  if (!status || (status.instance !== "" && readable(status.data?.database) && !(instances && notes))) {
    return;
  }
  const answering = status.instance !== "";
  const database = databaseOf(status.data?.database);
  const problem = problemOf(status, instances, notes);

  document.documentElement.dataset.problem = problem;
  for (const element of document.querySelectorAll(".problem")) {
    element.hidden = element.dataset.problem !== problem;
  }
  document.body.classList.toggle("stale", !answering);
  if (answering) {
    showStatus(status, database);
  }
  if (!answering) {
    showCount(0);
  } else if (ok(instances)) {
    showInstances(instances.data, status.instance);
  }
  if (ok(notes)) {
    showNotes(notes.data.notes ?? []);
  }
  $("unread-notes").hidden = ok(notes) || $("note-list").children.length > 0;
  $("answered-line").hidden = !answering;

  const tone = answering ? "passing" : "critical";
  setTone("dns", tone);
  setTone("backend", tone);
  setTone("database", answering ? database : "unknown");
  setText($("way-backend"), answering ? status.instance : "No answer");
  setText($("way-database"), words.database[answering ? database : "unknown"] ?? database);
  showLive(problem);
  announce(problem, ok(instances) ? instances.data.instances : null, ok(notes) ? notes.data.notes : null);
}

function setTone(step, tone) {
  setAttribute(document.querySelector(`[data-step="${step}"]`), "data-tone", tone);
}

function showStatus(status, database) {
  const { greeting = "", version = "", secrets = {} } = status.data ?? {};
  setText($("greeting"), greeting || "HashiStack Lab");
  setAttribute($("greeting-from"), "data-none", greeting ? null : "");
  setText($("answered"), status.instance);
  setText($("version"), version);
  const { server, user } = ["up", "ending"].includes(database) ? status.data.database : {};
  setText($("way-server"), server ?? "");
  setText($("way-user"), user ?? "");
  const ages = Object.values(secrets ?? {}).map((file) => file?.age_seconds).filter(Number.isFinite);
  $("secrets-line").hidden = ages.length === 0;
  if (ages.length > 0) {
    setText($("secrets-age"), span(Math.min(...ages)));
  }
}

function showCount(count) {
  setText($("count"), String(count));
  setText($("way-count"), String(count));
  setText($("count-word"), count === 1 ? "instance" : "instances");
  setAttribute($("count-box"), "data-none", count === 0 ? "yes" : "no");
}

function showInstances(data, answered) {
  const rows = data.instances ?? [];
  showCount(data.count ?? 0);
  setRows($("instances"), $("instance-template"), "name", rows, (row, item) => {
    const database = databaseOf(item.database);
    const address = item.port ? `${item.address}:${item.port}` : String(item.address ?? "");
    setAttribute(row, "data-state", item.state);
    setAttribute(row, "data-answered", item.name === answered ? "" : null);
    setText(part(row, "name"), item.name);
    setText(part(row, "state"), words.state[item.state] ?? item.state);
    setAttribute(part(row, "state"), "data-tone", item.state);
    setText(part(row, "address"), address);
    setText(part(row, "version"), item.version ?? "");
    setText(part(row, "database"), words.database[database] ?? database);
    setAttribute(part(row, "database"), "data-tone", database);
  });
  $("no-instances").hidden = rows.length > 0;
}

function showNotes(notes) {
  setRows($("note-list"), $("note-template"), "id", notes, (row, note, fresh) => {
    if (fresh) {
      setText(part(row, "text"), note.text);
      setText(part(row, "label"), note.text);
      setText(part(row, "instance"), note.instance ?? "");
      part(row, "time").dateTime = note.created_at;
      part(row, "time").title = new Date(note.created_at).toLocaleString();
      row.querySelector("button").value = note.id;
      row.classList.toggle("new", before !== null);
    }
    setText(part(row, "time"), ago(note.created_at));
  });
  $("no-notes").hidden = notes.length > 0;
}

function showLive(problem) {
  const lost = problem === "page" || problem === "backend";
  $("live").hidden = false;
  setAttribute($("live"), "data-tone", paused ? "paused" : lost ? "lost" : "live");
  setText($("live-word"), paused ? "Paused" : lost ? "No answer" : "Live");
  const title = lost ? "No answer" : `${$("count").textContent} active`;
  const full = `${title} · HashiStack Lab`;
  if (document.title !== full) {
    document.title = full;
  }
}

/** 42 -> "42 s", 180 -> "3 min", 7300 -> "2 h". */
function span(seconds) {
  if (seconds < 90) {
    return `${Math.round(seconds)} s`;
  }
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

/** How long ago a moment was, coarse enough to change seldom. */
function ago(iso) {
  const seconds = (Date.now() - Date.parse(iso)) / 1000;
  if (!Number.isFinite(seconds)) {
    return "";
  }
  if (seconds < 60) {
    return "just now";
  }
  return seconds < 86400 ? `${span(Math.max(seconds, 90))} ago` : new Date(iso).toLocaleDateString();
}

/** Tell screen readers what has changed, once and in few words. */
function announce(problem, instances, notes) {
  const states = instances && new Map(instances.map((item) => [item.name, item.state]));
  const sentences = [];
  if (before !== null) {
    if (problem !== before.problem) {
      const box = document.querySelector(`.problem[data-problem="${problem}"] h2`);
      sentences.push(box ? `${box.textContent}.` : "Everything answers again.");
    }
    if (states && before.states) {
      for (const [name, state] of states) {
        if (before.states.get(name) !== state) {
          sentences.push(`${name}: ${words.state[state] ?? state}.`);
        }
      }
      for (const name of before.states.keys()) {
        if (!states.has(name)) {
          sentences.push(`${name} is gone.`);
        }
      }
    }
    if (notes && before.notes) {
      const more = notes.filter((note) => !before.notes.has(note.id));
      sentences.push(...more.map((note) => `New note: ${note.text}`));
    }
  }
  if (sentences.length > 0) {
    $("announce").textContent = sentences.join(" ");
  }
  before = {
    problem,
    states: states ?? before?.states,
    notes: notes ? new Set(notes.map((note) => note.id)) : before?.notes,
  };
}

// ---- notes ----

function formError(message) {
  setText($("form-error"), message);
  $("form-error").hidden = message === "";
}

async function add(event) {
  event.preventDefault();
  const input = $("text");
  const text = input.value.trim();
  if (text === "") {
    formError("A note needs some text.");
    return;
  }
  const button = event.target.querySelector("button");
  button.disabled = true;
  const answer = await ask("/api/notes", {
    method: "POST",
    headers: { "Content-Type": "application/json", "Idempotency-Key": key() },
    body: JSON.stringify({ text }),
  });
  button.disabled = false;
  if (ok(answer)) {
    formError("");
    input.value = "";
    input.focus();
  } else {
    formError(answer.data?.error?.message ?? "Nothing answered, so the note may not have been saved.");
  }
  refresh();
}

async function remove(event) {
  event.preventDefault();
  const button = event.target.querySelector("button");
  button.disabled = true;
  const answer = await ask(`/api/notes/${encodeURIComponent(button.value)}`, { method: "DELETE" });
  button.disabled = false;
  if (!ok(answer) && answer.status !== 404) {
    formError(answer.data?.error?.message ?? "Nothing answered, so the note may still be there.");
  }
  refresh();
}

/** A random key of 32 hexadecimal digits, so that a repeated question makes no second note. */
function key() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// ---- start ----

document.documentElement.classList.add("js");
$("add").addEventListener("submit", add);
$("note-list").addEventListener("submit", remove);
$("pause").addEventListener("click", () => {
  paused = !paused;
  setText($("pause"), paused ? "Resume" : "Pause");
  showLive(document.documentElement.dataset.problem);
  if (paused) {
    rest();
  } else {
    refresh();
  }
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    rest();
  } else if (!paused) {
    refresh();
  }
});
refresh();
