// The page at /docs: reads /openapi.json, shows each operation, and sends requests to this node.
// Everything is made with DOM calls and textContent, so nothing from the document is run.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];
const ANSWER_CHARACTERS_MAX = 200000;

function make(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node[name] = value;
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

// Text with `code` in it, as our descriptions have it.
function prose(text) {
  const parts = (text || "").split("`");
  return parts.map((part, index) => (index % 2 && index < parts.length - 1
    ? make("code", { textContent: part }) : (index % 2 ? "`" : "") + part));
}

function resolved(document_, schema) {
  if (schema && schema.$ref) return document_.components.schemas[schema.$ref.split("/").pop()] || {};
  return schema || {};
}

function example(document_, schema, depth = 0) {
  const shape = resolved(document_, schema);
  if ("default" in shape) return shape.default;
  if ("const" in shape) return shape.const;
  if (shape.enum) return shape.enum[0];
  const either = shape.anyOf || shape.oneOf;
  if (either) return example(document_, either[0], depth);
  if (shape.type === "object" || shape.properties) {
    const made = {};
    const required = shape.required || [];
    for (const [name, inner] of Object.entries(shape.properties || {})) {
      if (required.includes(name) || depth === 0) made[name] = example(document_, inner, depth + 1);
    }
    return made;
  }
  if (shape.type === "array") return [];
  if (shape.type === "integer" || shape.type === "number") return shape.minimum || 0;
  if (shape.type === "boolean") return false;
  return shape.type === "string" ? "" : null;
}

function typeOf(document_, schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  const either = schema.anyOf || schema.oneOf;
  if (either) {
    const kinds = either.filter((one) => one.type !== "null").map((one) => typeOf(document_, one));
    return kinds.join(" or ") + (kinds.length < either.length ? ", optional" : "");
  }
  if (schema.type === "array") return `list of ${typeOf(document_, schema.items)}`;
  const bounds = [];
  if (schema.maxLength !== undefined) bounds.push(`≤ ${schema.maxLength} characters`);
  // A bound beyond 2^53 has lost its digits here, and nobody types such a number.
  if (Number.isSafeInteger(schema.minimum)) bounds.push(`≥ ${schema.minimum}`);
  if (Number.isSafeInteger(schema.maximum)) bounds.push(`≤ ${schema.maximum}`);
  if (schema.enum) bounds.push(schema.enum.join(", "));
  return [schema.type || "", bounds.length ? `(${bounds.join(", ")})` : ""].join(" ").trim();
}

function fieldsTable(document_, schema) {
  const shape = resolved(document_, schema);
  const rows = Object.entries(shape.properties || {}).map(([name, inner]) =>
    make("tr", {},
      make("td", {}, make("code", { textContent: name }),
        (shape.required || []).includes(name) ? " *" : ""),
      make("td", { textContent: typeOf(document_, inner) }),
      make("td", {}, ...prose(inner.description))));
  return rows.length ? make("table", {}, ...rows) : make("p", { textContent: typeOf(document_, schema) });
}

function needs(operation) {
  const names = (operation.security || []).flatMap((one) => Object.keys(one));
  if (!names.length) return "";
  if (names.includes("signedRequest")) return "signed by a creator (use the hansa command)";
  return names.includes("apiKey") ? "API key" : "operator's token";
}

async function send(method, path, operation, inputs, body, output) {
  let target = path;
  const query = new URLSearchParams();
  const headers = {};
  for (const { parameter, input } of inputs) {
    if (!input.value) continue;
    if (parameter.in === "path") target = target.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else if (parameter.in === "header") headers[parameter.name] = input.value;
    else query.append(parameter.name, input.value);
  }
  const missing = target.match(/\{([a-z_]+)\}/);
  if (missing) { output.replaceChildren(make("p", { textContent: `Fill in ${missing[1]} first.` })); return; }
  const token = document.getElementById("token").value.trim();
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = Object.keys(operation.requestBody.content)[0];
  const url = query.size ? `${target}?${query}` : target;
  const status = make("span", { class: "status", textContent: "…" });
  const text = make("pre", {});
  const stop = new AbortController();
  const button = make("button", { class: "plain", type: "button", textContent: "Stop", onclick: () => stop.abort() });
  output.replaceChildren(make("p", {}, `${method.toUpperCase()} ${url} → `, status, " ", button), text);
  const started = performance.now();
  try {
    const answer = await fetch(url, { method: method.toUpperCase(), headers, body: body ? body.value : undefined, signal: stop.signal });
    status.textContent = `${answer.status} ${answer.statusText}`;
    status.classList.add(answer.ok ? "good" : "bad");
    const reader = answer.body ? answer.body.pipeThrough(new TextDecoderStream()).getReader() : null;
    let whole = "";
    while (reader) {
      const { value, done } = await reader.read();
      if (done) break;
      whole += value;
      text.textContent = whole.slice(-ANSWER_CHARACTERS_MAX);
    }
    if ((answer.headers.get("Content-Type") || "").includes("json") && whole.length < ANSWER_CHARACTERS_MAX) {
      text.textContent = JSON.stringify(JSON.parse(whole), null, 2);
    }
    status.textContent += ` in ${Math.round(performance.now() - started)} ms`;
  } catch (error) {
    status.textContent = stop.signal.aborted ? "stopped" : String(error);
    status.classList.add("bad");
  }
  button.remove();
}

function showOperation(document_, path, method, operation) {
  const inputs = (operation.parameters || []).map((parameter) => ({
    parameter,
    input: make("input", { placeholder: typeOf(document_, parameter.schema), spellcheck: false,
      ariaLabel: parameter.name }),
  }));
  const content = operation.requestBody ? Object.values(operation.requestBody.content)[0] : null;
  const binary = content && content.schema.format === "binary";
  const body = content && !binary
    ? make("textarea", { spellcheck: false, ariaLabel: "body",
        value: JSON.stringify(example(document_, content.schema), null, 2) })
    : null;
  const output = make("div", {});
  const answers = Object.entries(operation.responses || {}).map(([status, answer]) => {
    const shape = Object.values(answer.content || {})[0];
    const kind = Object.keys(answer.content || {})[0] || "";
    return make("tr", {}, make("td", {}, make("code", { textContent: status })),
      make("td", { textContent: answer.description }),
      make("td", { textContent: shape && shape.schema.$ref ? typeOf(document_, shape.schema) : kind }));
  });
  const success = Object.entries(operation.responses || {}).find(([status, answer]) =>
    status.startsWith("2") && answer.content && answer.content["application/json"]);
  const lock = needs(operation);
  const inner = () => [
    make("p", {}, ...prose(operation.description)),
    inputs.length ? make("h4", { textContent: "Parameters" }) : null,
    inputs.length ? make("table", {}, ...inputs.map(({ parameter, input }) => make("tr", {},
      make("td", {}, make("code", { textContent: parameter.name }), parameter.required ? " *" : ""),
      make("td", {}, ...prose(parameter.description || parameter.in)),
      make("td", {}, input)))) : null,
    content ? make("h4", { textContent: "Body" }) : null,
    content && !binary ? fieldsTable(document_, content.schema) : null,
    binary ? make("p", { textContent: "Bytes; send them with a program." }) : body,
    make("div", { class: "row" }, make("button", { type: "button", textContent: "Send",
      onclick: () => send(method, path, operation, inputs, body, output) })),
    output,
    make("h4", { textContent: "Answers" }),
    make("table", {}, ...answers),
    success ? make("h4", {}, ...prose(`Fields of \`${success[0]}\``)) : null,
    success ? fieldsTable(document_, success[1].content["application/json"].schema) : null,
  ].filter((one) => one !== null);
  const holder = make("div", { class: "body" });
  const details = make("details", { id: operation.operationId, ontoggle: () => {
    if (details.open && !holder.hasChildNodes()) holder.append(...inner());
  } },
    make("summary", {},
      make("span", { class: `method ${method}`, textContent: method.toUpperCase() }),
      make("span", { class: "path", textContent: path }),
      lock ? make("span", { class: "lock", textContent: lock }) : null,
      make("span", { class: "title", textContent: operation.summary || "" })),
    holder);
  details.dataset.words = `${method} ${path} ${operation.summary} ${operation.tags}`.toLowerCase();
  return details;
}

function filter() {
  const words = document.getElementById("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const section of document.querySelectorAll("section")) {
    let shown = 0;
    for (const one of section.querySelectorAll("details")) {
      one.hidden = !words.every((word) => one.dataset.words.includes(word));
      shown += one.hidden ? 0 : 1;
    }
    section.hidden = shown === 0;
  }
}

async function main() {
  const place = document.getElementById("operations");
  let document_;
  try {
    document_ = await (await fetch("/openapi.json")).json();
  } catch (error) {
    place.replaceChildren(make("p", { textContent: `/openapi.json cannot be read: ${error}` }));
    return;
  }
  document.getElementById("about").append(
    ...prose(`${document_.info.description} Version ${document_.info.version}.`));
  const sections = new Map(document_.tags.map(({ name }) => [name, make("section", {}, make("h2", { textContent: name }))]));
  for (const [path, methods] of Object.entries(document_.paths)) {
    for (const method of METHODS.filter((one) => methods[one])) {
      sections.get(methods[method].tags[0]).append(showOperation(document_, path, method, methods[method]));
    }
  }
  place.replaceChildren(...sections.values());
  document.getElementById("filter").addEventListener("input", filter);
  document.getElementById("credentials").addEventListener("submit", (event) => event.preventDefault());
  const wanted = location.hash && document.getElementById(location.hash.slice(1));
  if (wanted) { wanted.open = true; wanted.scrollIntoView(); }
}

main();
