"use strict";
// The page of `polclip serve`: asks the server's JSON interface and draws what it answers. Nothing is put in as HTML.

const told = document.body.dataset;
const LONGEST_TEXT = Number(told.longestText);
const MOST_PICTURES = Number(told.mostPictures);
const LARGEST_PICTURES = Number(told.largestPictures);
const FIRST_SENSES = 5;
const IMAGINED = 5;
const GLOSSES = 3;
const TRIES = 5; // while the server is busy

const find = (id) => document.getElementById(id);

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function bar(probability) {
  const filled = make("i");
  filled.style.width = `${100 * probability}%`;
  const whole = make("div", { className: "bar" }, filled);
  whole.setAttribute("aria-hidden", "true"); // the percentage stands beside it
  return whole;
}

function percent(probability) {
  const value = 100 * probability;
  return value < 1 ? "<1\u00a0%" : `${Math.round(value)}\u00a0%`;
}

// --- asking

async function ask(path, body, signal) {
  const form = body instanceof FormData;
  const how = { method: "POST", signal, body: form ? body : JSON.stringify(body) };
  if (!form) how.headers = { "Content-Type": "application/json" };
  for (let attempt = 1; ; attempt++) {
    let response;
    try {
      response = await fetch(path, how);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error("The server does not answer. Is it still running?");
    }
    const answer = await response.json().catch(() => null);
    if (response.status === 503 && attempt < TRIES) {
      await new Promise((go) => setTimeout(go, 500 * attempt));
      signal.throwIfAborted();
    } else if (!response.ok || !answer) {
      throw new Error(answer?.error ?? `The server gave no answer (${response.status}).`);
    } else {
      return answer;
    }
  }
}

// One thing at a time in each part of the page: a new question ends the one before.
class Part {
  constructor(name, list) {
    this.error = find(`${name}-error`);
    this.status = find(`${name}-status`);
    this.list = list;
    this.asking = new AbortController();
  }

  async run(action) {
    this.asking.abort();
    const mine = (this.asking = new AbortController());
    this.tell("One moment …");
    this.list.setAttribute("aria-busy", "true");
    try {
      await action(mine.signal);
    } catch (error) {
      if (error.name !== "AbortError" && !mine.signal.aborted) this.fail(error.message);
    } finally {
      if (this.asking === mine) this.list.removeAttribute("aria-busy");
    }
  }

  tell(text) {
    this.status.textContent = text;
    this.error.hidden = true;
    this.error.textContent = "";
  }

  fail(message) {
    this.status.textContent = "";
    this.error.hidden = false;
    this.error.textContent = message;
  }
}

// --- words of a sentence

const sentence = new Part("sentence", find("sense-list"));
const marked = find("marked");

function markWords(text, wanted = null) {
  return sentence.run(async (signal) => {
    for (const id of ["marked", "sentence-hint", "senses"]) find(id).hidden = true;
    const letters = Array.from(text); // as the server counts them
    if (!text.trim()) throw new Error("Type a sentence first.");
    if (letters.length > LONGEST_TEXT) {
      const [has, most] = [letters.length.toLocaleString("en"), LONGEST_TEXT.toLocaleString("en")];
      throw new Error(`The text has ${has} characters; at most ${most} are read here.`);
    }
    const answer = await ask("/api/words", { text }, signal);
    if (answer.reason) throw new Error(`${answer.reason[0].toUpperCase()}${answer.reason.slice(1)}.`);
    let at = 0;
    marked.replaceChildren();
    for (const word of answer.words) {
      // A word within several that are marked as one, "made" in "made it", has its button behind them.
      const within = word.start < at;
      const button = make("button", { type: "button", textContent: word.target, title: `${word.senses} senses` });
      button.setAttribute("aria-pressed", "false");
      button.addEventListener("click", () => chooseWord(button, text, word));
      if (within) button.className = "within";
      marked.append(within ? " " : letters.slice(at, word.start).join(""), button);
      at = Math.max(at, word.end);
    }
    marked.append(letters.slice(at).join(""));
    marked.hidden = find("sentence-hint").hidden = false;
    const count = answer.words.length;
    sentence.tell(count === 1 ? "1 ambiguous word is marked." : `${count} ambiguous words are marked.`);
    const first = answer.words.findIndex((word) => word.target.toLowerCase() === wanted);
    if (first >= 0) marked.querySelectorAll("button")[first].click();
  });
}

function chooseWord(button, text, word) {
  for (const other of marked.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
  sentence.run(async (signal) => {
    const answer = await ask("/api/senses", { text, target: [word.start, word.end] }, signal);
    const [{ senses, reason }] = answer.words.length ? answer.words : [{ senses: [], reason: answer.reason }];
    if (reason) throw new Error(`“${word.target}”: ${reason}.`);
    find("senses-title").textContent = `“${word.target}” here`;
    find("sense-list").replaceChildren();
    find("senses").hidden = false;
    const best = senses[0];
    sentence.tell(`${senses.length} senses of “${word.target}”. Best, with ${percent(best.probability)}: ${best.gloss}`);
    const more = find("more-senses");
    more.hidden = senses.length <= FIRST_SENSES;
    more.textContent = `Show all ${senses.length} senses`;
    more.onclick = () => {
      more.hidden = true;
      const first = showSenses(senses.slice(FIRST_SENSES), signal);
      first.tabIndex = -1;
      first.focus();
    };
    showSenses(senses.slice(0, FIRST_SENSES), signal);
  });
}

const PARTS_OF_SPEECH = { n: "noun", v: "verb", a: "adjective", r: "adverb" };

function showSenses(senses, signal) {
  const waiting = [];
  const items = senses.map((sense) => {
    const item = make("li", {}, make("div", { className: "percent", textContent: percent(sense.probability) }));
    const key = make("p", { className: "key" }, `${sense.lemma.replaceAll("_", " ")}, ${PARTS_OF_SPEECH[sense.pos]} · `);
    key.append(make("code", { textContent: sense.sense_key }));
    const gloss = make("p", { className: "gloss", textContent: sense.gloss });
    item.append(make("div", { className: "said" }, gloss, bar(sense.probability), key));
    if (told.imagines === "true") {
      const place = make("div", { className: "imagined" }, ...Array.from({ length: IMAGINED }, () => make("span")));
      item.append(place);
      waiting.push([sense.sense_key, place]);
    }
    return item;
  });
  find("sense-list").append(...items);
  imagineAll(waiting, signal);
  return items[0];
}

// One after the other, best first.
async function imagineAll(waiting, signal) {
  for (const [sense_key, place] of waiting) {
    try {
      const answer = await ask("/api/imagine", { sense_key, k: IMAGINED }, signal);
      if (answer.reason) throw new Error(answer.reason);
      place.replaceChildren(
        ...answer.images.map((one) => make("img", { src: one.url, alt: one.name, title: one.image, loading: "lazy" })),
      );
    } catch (error) {
      if (signal.aborted) return;
      place.replaceChildren(make("p", { textContent: `No pictures: ${error.message}` }));
    }
  }
}

find("sentence-form").addEventListener("submit", (event) => {
  event.preventDefault();
  markWords(find("sentence").value);
});
find("sentence").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  find("sentence-form").requestSubmit();
});
for (const button of document.querySelectorAll(".example")) {
  button.addEventListener("click", () => {
    find("sentence").value = button.textContent;
    markWords(button.textContent, button.dataset.word);
  });
}

// --- pictures

const pictures = new Part("pictures", find("picture-list"));
let chosen = []; // of { file, url }
const described = new Map(); // what was said of a file

function choose(files) {
  for (const { url } of chosen) URL.revokeObjectURL(url);
  chosen = files.map((file) => ({ file, url: URL.createObjectURL(file) }));
  described.clear();
  find("ranking").hidden = true;
  find("clear").hidden = !chosen.length;
  find("chosen").replaceChildren(...chosen.slice(0, MOST_PICTURES).map((one) => make("li", {}, picture(one))));
  pictures.tell(chosen.length ? `${chosen.length} ${chosen.length === 1 ? "file is" : "files are"} chosen.` : "");
  if (chosen.length && (find("phrase").value.trim() || find("word").value.trim())) rank();
}

function picture({ file, url }) {
  const image = make("img", { src: url, alt: file.name, title: file.name });
  // No picture at all, or of a kind that the model reads and the browser does not show.
  image.onerror = () => image.replaceWith(make("span", { className: "unseen", textContent: "no preview", title: file.name }));
  return image;
}

function form(fields, files) {
  const data = new FormData();
  for (const [name, value] of Object.entries(fields)) data.append(name, value);
  for (const file of files) data.append("pictures", file, file.name);
  return data;
}

function rank() {
  return pictures.run(async (signal) => {
    const [word, phrase] = [find("word").value.trim(), find("phrase").value.trim()];
    const bytes = chosen.reduce((sum, { file }) => sum + file.size, 0);
    if (!chosen.length) throw new Error("Choose some pictures first.");
    if (!word && !phrase) throw new Error("Type the word or the phrase that the pictures are to be ranked by.");
    if (chosen.length > MOST_PICTURES) throw new Error(`${chosen.length} files are chosen; at most ${MOST_PICTURES} are ranked at once.`);
    if (bytes > LARGEST_PICTURES) {
      throw new Error(`The files have ${Math.ceil(bytes / 1e6)} MB; at most ${LARGEST_PICTURES / 1e6} MB are taken at once.`);
    }
    const answer = await ask("/api/images", form({ word, phrase }, chosen.map((one) => one.file)), signal);
    const skipped = answer.skipped.map(leftOut);
    const waiting = [];
    const items = answer.images.map((one) => {
      const item = make("li", {}, make("div", { className: "percent", textContent: percent(one.probability) }));
      item.append(make("figure", { className: "shown" }, picture(chosen[one.place])));
      const said = make("div", { className: "said" }, make("p", { className: "name", textContent: one.image }), bar(one.probability));
      item.append(said);
      waiting.push([chosen[one.place].file, said]);
      return item;
    });
    find("ranking-title").textContent = `“${phrase || word}”, best first`;
    find("picture-list").replaceChildren(...items);
    find("ranking").hidden = !items.length;
    if (skipped.length) pictures.fail(skipped.join("\n"));
    if (items.length) {
      const count = items.length === 1 ? "1 picture" : `${items.length} pictures`;
      pictures.status.textContent = `${count} ranked. First: ${answer.images[0].image}, with ${percent(answer.images[0].probability)}.`;
    } else if (!skipped.length) {
      pictures.fail(`${answer.reason}.`);
    }
    if (told.describes === "true") describeAll(waiting, signal);
  });
}

function leftOut({ image, reason }) {
  return reason.startsWith("cannot") ? `${image} ${reason}: it is no picture, or a broken one.` : `${image} is left out: ${reason}.`;
}

async function describeAll(waiting, signal) {
  for (const [file, place] of waiting) {
    try {
      if (!described.has(file)) {
        const answer = await ask("/api/describe", form({ k: GLOSSES }, [file]), signal);
        described.set(file, answer.pictures[0]);
      }
      const { glosses, reason } = described.get(file);
      if (reason) throw new Error(reason);
      const list = make("ul", {}, ...glosses.map((one) => {
        const lemmas = make("b", { textContent: one.lemmas.join(", ").replaceAll("_", " ") });
        return make("li", {}, lemmas, `: ${one.gloss}`);
      }));
      place.append(make("h4", { textContent: "The model reads in it" }), list);
    } catch (error) {
      if (signal.aborted) return;
      place.append(make("p", { className: "note", textContent: `Not described: ${error.message}` }));
    }
  }
}

find("pictures-form").addEventListener("submit", (event) => {
  event.preventDefault();
  rank();
});
find("files").addEventListener("change", (event) => choose([...event.target.files]));
find("clear").addEventListener("click", () => {
  pictures.asking.abort();
  find("files").value = "";
  choose([]);
  find("files").focus();
});

const drop = find("drop");
// A file that misses the place would else be opened instead of the page.
for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());
drop.addEventListener("dragover", () => drop.classList.add("over"));
drop.addEventListener("dragleave", (event) => drop.contains(event.relatedTarget) || drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  drop.classList.remove("over");
  find("files").value = "";
  choose([...event.dataTransfer.files]);
});

for (const button of document.querySelectorAll(".query")) {
  button.addEventListener("click", async () => {
    pictures.tell("Fetching the pictures …");
    try {
      const files = await Promise.all(button.dataset.places.split(" ").map(async (place, at) => {
        const response = await fetch(`/pictures/${place}`);
        if (!response.ok) throw new Error("A picture of the run is not there any more.");
        const blob = await response.blob();
        return new File([blob], `picture ${at + 1}`, { type: blob.type });
      }));
      find("word").value = button.dataset.word.replaceAll("_", " ");
      find("phrase").value = button.dataset.phrase;
      find("files").value = "";
      choose(files);
    } catch (error) {
      pictures.fail(error.message);
    }
  });
}
