// The page as a function of what is known: `h` describes elements, `render` makes the document
// look so. Elements that stay are kept, so focus, selection and scrolling survive each second.
//
// All text becomes text nodes and attribute values, never markup: names, keys and values come from
// anybody. Nothing here, and nothing in the other modules, sets innerHTML.

const SVG = "http://www.w3.org/2000/svg";
const AS_PROPERTY = new Set(["value", "checked", "disabled", "indeterminate", "open"]);

// An element. `props`: attributes; `key` (which child it is among its siblings), `on` ({event:
// function}), `style` ({property: value}), `ref` (called with the element once it is made).
// Children: elements, text, numbers, arrays of them; null, undefined and false are nothing.
export function h(tag, props, ...children) {
  return { tag, props: props ?? {}, children: flat(children, []), key: props?.key };
}

function flat(children, into) {
  for (const child of children) {
    if (Array.isArray(child)) flat(child, into);
    else if (child === null || child === undefined || child === false) continue;
    else if (typeof child === "object") into.push(child);
    else into.push({ text: String(child) });
  }
  return into;
}

// Make the children of `parent` look like these.
export function render(parent, ...children) {
  const wanted = flat(children, []);
  patch(parent, parent.vnodes ?? [], wanted);
  parent.vnodes = wanted;
}

function patch(parent, old, wanted) {
  const keyed = new Map();
  const unkeyed = [];
  for (const each of old) {
    if (each.key === undefined) unkeyed.push(each);
    else keyed.set(each.key, each);
  }
  let next = 0;
  let place = parent.firstChild;
  for (const each of wanted) {
    let before;
    if (each.key !== undefined) {
      before = keyed.get(each.key);
      if (before && before.tag === each.tag) keyed.delete(each.key);
      else before = undefined;
    } else if (next < unkeyed.length && unkeyed[next].tag === each.tag) {
      before = unkeyed[next];
      unkeyed[next] = null;
      next += 1;
    } else {
      // The kinds went apart: what is left over of the old is removed below.
      const at = unkeyed.findIndex((one, index) => index >= next && one?.tag === each.tag);
      if (at >= 0) {
        before = unkeyed[at];
        unkeyed[at] = null;
        next = at + 1;
      }
    }
    const node = before ? update(before, each) : create(each, parent);
    if (node === place) place = place.nextSibling;
    else parent.insertBefore(node, place);
  }
  for (const each of [...keyed.values(), ...unkeyed]) each?.node.remove();
}

function create(vnode, parent) {
  if (vnode.tag === undefined) {
    vnode.node = document.createTextNode(vnode.text);
    return vnode.node;
  }
  const svg = vnode.tag === "svg" || parent.namespaceURI === SVG;
  const node = svg
    ? document.createElementNS(SVG, vnode.tag)
    : document.createElement(vnode.tag);
  vnode.node = node;
  setProps(node, {}, vnode.props);
  patch(node, [], vnode.children);
  // A select's value names one of its children, so it comes after them.
  if ("value" in vnode.props) node.value = vnode.props.value;
  vnode.props.ref?.(node);
  return node;
}

function update(old, vnode) {
  const node = old.node;
  vnode.node = node;
  if (vnode.tag === undefined) {
    if (old.text !== vnode.text) node.data = vnode.text;
    return node;
  }
  patch(node, old.children, vnode.children);
  setProps(node, old.props, vnode.props);
  return node;
}

function setProps(node, old, props) {
  for (const name in old) {
    if (!(name in props)) setProp(node, name, old[name], undefined);
  }
  for (const name in props) setProp(node, name, old[name], props[name]);
}

function setProp(node, name, before, value) {
  if (name === "key" || name === "ref") return;
  if (name === "on") {
    for (const type in before ?? {}) if (!value?.[type]) node[`on${type}`] = null;
    for (const type in value ?? {}) node[`on${type}`] = value[type];
  } else if (name === "style") {
    for (const property in value ?? {}) {
      if (before?.[property] !== value[property]) node.style.setProperty(property, value[property]);
    }
  } else if (AS_PROPERTY.has(name)) {
    if (node[name] !== value) node[name] = value ?? false;
  } else if (value === undefined || value === null || value === false) {
    node.removeAttribute(name);
  } else if (before !== value) {
    node.setAttribute(name, value === true ? "" : String(value));
  }
}
