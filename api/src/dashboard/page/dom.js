// Elements from data. Text is always a text node, so no name can become markup; styles go through CSSOM, as the policy asks.

const SVG = "http://www.w3.org/2000/svg";

/** The element of this id; a page without it is broken. */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element #${id}`);
  return found;
}

/** An element with attributes and children (elements or text). An attribute that is null, undefined or false is left out. */
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same in SVG. */
export function shape(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

/** Sets a text only if it differs: less for assistive technology to say, and a selection survives. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Sets or removes an attribute, if that changes anything. */
export function setAttribute(node, name, value) {
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, String(value));
}

/** Makes a button show and hide a part of the page, which is hidden at first. */
export function disclose(button, part) {
  const open = (isOpen) => {
    part.hidden = !isOpen;
    setAttribute(button, "aria-expanded", String(isOpen));
  };
  button.addEventListener("click", () => open(part.hidden));
  open(false);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) setAttribute(node, name, value);
  node.append(...children);
  return node;
}
