// Shows openapi.json. Text goes into the page as text only, never as markup.

const make = (name, ...children) => {
  const element = document.createElement(name);
  element.append(...children);
  return element;
};

const table = (heads, rows) => {
  const row = (cell, texts) => make("tr", ...texts.map((text) => make(cell, text)));
  return make("table", make("thead", row("th", heads)), make("tbody", ...rows.map((texts) => row("td", texts))));
};

// What a schema allows, in a few words.
const words = (schema = {}) => {
  if (schema.$ref) return schema.$ref.split("/").pop();
  const parts = [[schema.type ?? "any"].flat().join(" or ")];
  if (schema.enum) parts.push(`one of ${schema.enum.join(", ")}`);
  if (schema.minimum !== undefined) parts.push(`from ${schema.minimum}`);
  if (schema.maximum !== undefined) parts.push(`to ${schema.maximum}`);
  if (schema.items) parts.push(`of ${words(schema.items)}`);
  if (schema.default !== undefined) parts.push(`(default ${schema.default})`);
  return parts.join(" ");
};

// A schema with the schemas that it names put in their place.
const whole = (schema, all, depth = 0) => {
  if (depth > 8 || schema === null || typeof schema !== "object") return schema;
  if (Array.isArray(schema)) return schema.map((one) => whole(one, all, depth + 1));
  if (schema.$ref) return whole(all[schema.$ref.split("/").pop()], all, depth + 1);
  return Object.fromEntries(Object.entries(schema).map(([name, value]) => [name, whole(value, all, depth + 1)]));
};

const answer = (status, response, all) => {
  const parts = Object.entries(response.content ?? {}).map(([type, { schema }]) => {
    const summary = make("summary", `${status} ${response.description} `, make("code", type));
    return make("details", summary, make("pre", JSON.stringify(whole(schema ?? {}, all), null, 2)));
  });
  return parts.length > 0 ? parts : [make("p", `${status} ${response.description}`)];
};

const section = (path, operation, all) => {
  const parts = [make("h2", `GET ${path}`), make("p", [operation.summary, operation.description].filter(Boolean).join(" "))];
  const parameters = operation.parameters ?? [];
  if (parameters.length > 0) {
    const rows = parameters.map((one) => [one.name, one.in, words(one.schema), one.description ?? ""]);
    parts.push(make("h3", "Parameters"), table(["name", "in", "value", "meaning"], rows));
  }
  const answers = Object.entries(operation.responses).flatMap(([status, response]) => answer(status, response, all));
  return make("section", ...parts, make("h3", "Answers"), ...answers);
};

const description = await (await fetch("/openapi.json")).json();
document.querySelector("#about").textContent = description.info.description;
const all = description.components.schemas;
const paths = Object.entries(description.paths).filter(([, item]) => item.get);
document.querySelector("#paths").replaceChildren(...paths.map(([path, item]) => section(path, item.get, all)));
