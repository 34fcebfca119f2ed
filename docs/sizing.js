// The calculator of the page Sizing: how many processes and partitions a load needs, and how much disk. The costs were measured on one
// machine (sizing.md says how). CPU times are those of one core: a faster core divides them, and a busy machine does not change them.
"use strict";

const SECONDS_PER_DAY = 86_400;
const MOST_PARTITIONS = 1024;

// CPU in microseconds, sizes in bytes.
const COSTS = {
  // The fan-out and the retry: one attempt of 2 KB, with its share of the event, of signing and of Kafka.
  // The figure of `make bench-path` is here and in sizing.md, and nowhere else. The form can replace it.
  delivery: 300,
  // The recorder, in Python: decoding, the row, the insert.
  recordedAttempt: 45,
  // ClickHouse: inserting a row; an event with the index of its body.
  storedAttempt: 40,
  storedEvent: 190,
  // What ClickHouse spends on merges and replication in addition to inserts, as a factor.
  merging: 2,
  attemptOnDisk: 80,
  // ClickHouse, compressed: the body is a quarter of it, its index the rest.
  bodyByteOnDisk: 0.55,
  // The same for random text (tokens, base64, hashes), which hardly compresses. Its n-grams all differ, so its index is large.
  randomByteOnDisk: 1.55,
  // Kafka: an attempt in a batch, and a byte of a body, compressed with lz4.
  attemptInKafka: 170,
  bodyByteInKafka: 0.4,
};

// How long Kafka keeps data, how often data is stored, and how busy a process may be.
const DEPLOYMENT = {
  kafkaDays: 7,
  kafkaReplicas: 3,
  clickhouseReplicas: 2,
  // Of a core at the peak. The rest is for catching up after an outage, and for the failure of a process.
  utilisation: 0.5,
  // What one node of ClickHouse gets before a second shard is added.
  shardBytes: 4e12,
  shardCores: 16,
};

// The load, as the form asks for it.
const FIELDS = [
  { name: "events", label: "events a second, at the peak", value: 100, min: 0.001, max: 1e9 },
  { name: "averagePercent", label: "average load, in % of the peak", value: 30, min: 0.1, max: 100 },
  { name: "endpoints", label: "endpoints that match an event", value: 2, min: 0, max: 1e6 },
  { name: "attempts", label: "attempts per delivery", value: 1.15, min: 1, max: 6 },
  { name: "bodyBytes", label: "body, in bytes", value: 2000, min: 1, max: 1e9 },
  { name: "randomPercent", label: "random text, in % of the body", value: 0, min: 0, max: 100 },
  { name: "days", label: "days that ClickHouse keeps", value: 400, min: 1, max: 36_500 },
  { name: "deliveryCost", label: "CPU time of a delivery, in µs", value: COSTS.delivery, min: 1, max: 1e9 },
];

// Processes follow the peak, disk follows the average.
function size(load) {
  const deliveries = load.events * load.endpoints;
  const attempts = deliveries * load.attempts;
  const fanout = processes(deliveries * load.deliveryCost);
  const retry = processes((attempts - deliveries) * load.deliveryCost);
  const recorder = processes((attempts + load.events) * COSTS.recordedAttempt);
  const stored = attempts * COSTS.storedAttempt + load.events * COSTS.storedEvent;
  const cores = stored * COSTS.merging / 1e6 / DEPLOYMENT.utilisation;
  const eventsPerDay = load.events * (load.averagePercent / 100) * SECONDS_PER_DAY;
  const replica = clickhouseBytes(load, eventsPerDay * load.days);
  return {
    deliveries, attempts, fanout, retry, recorder, cores,
    // Twice as many partitions as processes: they are divided evenly if one process fails, and there is room to grow.
    partitions: Math.max(6, 2 * Math.max(fanout, retry, recorder)),
    shards: Math.max(1, Math.ceil(replica / DEPLOYMENT.shardBytes), Math.ceil(cores / DEPLOYMENT.shardCores)),
    // On all replicas together.
    clickhouse: replica * DEPLOYMENT.clickhouseReplicas,
    kafka: kafkaBytes(load, eventsPerDay * DEPLOYMENT.kafkaDays) * DEPLOYMENT.kafkaReplicas,
  };
}

// At least two, because one may fail.
function processes(microseconds) {
  return Math.max(2, Math.ceil(microseconds / 1e6 / DEPLOYMENT.utilisation));
}

// An event is stored once, with the index of its body. Its attempts are added.
function clickhouseBytes(load, events) {
  const random = load.randomPercent / 100;
  const perByte = (1 - random) * COSTS.bodyByteOnDisk + random * COSTS.randomByteOnDisk;
  const attempts = events * load.endpoints * load.attempts;
  return events * load.bodyBytes * perByte + attempts * COSTS.attemptOnDisk;
}

// An event is stored as published and as sent, and once more for each retry. Its attempts are added.
function kafkaBytes(load, events) {
  const deliveries = events * load.endpoints;
  const attempts = deliveries * load.attempts;
  const bodies = (2 * events + attempts - deliveries) * load.bodyBytes * COSTS.bodyByteInKafka;
  return bodies + attempts * COSTS.attemptInKafka;
}

// The results, as the page shows them.
const ROWS = {
  "deliveries a second": (needed) => shown(needed.deliveries),
  "attempts a second": (needed) => shown(needed.attempts),
  "fan-out processes": (needed) => shown(needed.fanout),
  "retry processes": (needed) => shown(needed.retry),
  "recorder processes": (needed) => shown(needed.recorder),
  "partitions": (needed) => shown(needed.partitions),
  "ClickHouse cores": (needed) => shown(needed.cores, 1),
  "ClickHouse shards": (needed) => shown(needed.shards),
  "ClickHouse disk": (needed) => shownBytes(needed.clickhouse),
  "Kafka disk": (needed) => shownBytes(needed.kafka),
};

function shown(number, digits = 0) {
  return Number(number.toFixed(digits)).toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function shownBytes(count) {
  if (count < 1e12) return `${shown(count / 1e9)} GB`;
  return count < 1e15 ? `${shown(count / 1e12)} TB` : `${shown(count / 1e15)} PB`;
}

// As people write it: 10,000 or 1.15.
function written(number) {
  return number.toLocaleString("en", { maximumFractionDigits: 3 });
}

// The number that people wrote, or NaN. A decimal comma is not accepted: it would be confused with the comma between thousands.
function read(text) {
  const isNumber = /^(\d+|\d{1,3}(,\d{3})+)(\.\d*)?$|^\.\d+$/.test(text.trim());
  return isNumber ? Number(text.replaceAll(",", "")) : NaN;
}

// An element with its attributes and its content.
function element(tag, attributes, ...content) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...content);
  return made;
}

// Screen readers read it aloud, but not again while it stays the same.
function tell(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

// A field with its label. The description of its input is the problem with its value, if there is one.
function fieldOf({ name, label, value, min, max }) {
  const id = `sizing-${name}`;
  const problem = element("p", { id: `${id}-problem`, class: "problem", "aria-live": "polite" });
  const described = { "aria-describedby": problem.id };
  const input = element("input", { id, value: written(value), inputmode: "decimal", autocomplete: "off", ...described });
  const whole = element("div", { class: "field" }, element("label", { for: id }, label), input, problem);
  const advice = `Enter a number from ${written(min)} to ${written(max)}, such as ${written(value)}.`;
  const check = () => {
    const number = read(input.value);
    const isValid = number >= min && number <= max;
    input.setAttribute("aria-invalid", String(!isValid));
    tell(problem, isValid ? "" : advice);
    return isValid ? number : null;
  };
  return { name, whole, check };
}

function build(place) {
  const fields = FIELDS.map(fieldOf);
  const cells = Object.keys(ROWS).map(() => element("td", {}));
  const rows = Object.keys(ROWS).map((name, at) => element("tr", {}, element("th", { scope: "row" }, name), cells[at]));
  const note = element("p", { class: "problem", "aria-live": "polite" });
  const results = element("table", { class: "results" }, element("caption", {}, "What it needs"), element("tbody", {}, ...rows));
  const form = element("form", {},
    element("fieldset", {}, element("legend", {}, "Your load"), ...fields.map((field) => field.whole)),
    element("div", {}, results, note));

  const update = () => {
    const load = Object.fromEntries(fields.map((field) => [field.name, field.check()]));
    const needed = Object.values(load).includes(null) ? null : size(load);
    Object.values(ROWS).forEach((text, at) => { cells[at].textContent = needed ? text(needed) : "-"; });
    tell(note, noteOn(needed));
  };
  form.addEventListener("input", update);
  update();
  place.append(form);
}

function noteOn(needed) {
  if (!needed) return "The results appear when every value is valid.";
  if (needed.partitions <= MOST_PARTITIONS) return "";
  return `A topic may have at most ${written(MOST_PARTITIONS)} partitions. `
    + "Divide this load among several pipelines, each with its own kafka_topic_prefix.";
}

build(document.querySelector("#sizing-calculator"));
