// The map that one walks in: canvas, list of clusters, tree, search and filters.
// Everything comes from the JSON in the page; a server behind the page gives what one file cannot hold.
"use strict";
(() => {
const TYPES = {u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, i1: Int8Array, i2: Int16Array, i4: Int32Array, f4: Float32Array};
const find = (id) => document.getElementById(id);

function unpack({type, bytes}) {
  const text = atob(bytes), raw = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) raw[i] = text.charCodeAt(i);
  return new TYPES[type](raw.buffer);
}

const data = JSON.parse(find("explorer-data").textContent,
  (key, value) => value && typeof value.bytes === "string" ? unpack(value) : value);
const {points, clusters, families, sprite, levels, columns, noun} = data;
// By themselves in the page, so that a name can be changed in it.
const names = JSON.parse(find("cluster-names").textContent);
const n = points.index.length, nIds = clusters.size.length, sure = clusters.certainty;
const nPictures = sprite ? sprite.n : 0;
const server = document.querySelector('meta[name="overcluster-server"]')?.content || "";
const isFramed = window.parent !== window;
// Pictures, and rows of a list, that are added at a time.
const PAGE = 60, ROWS = 100;

// ---------------------------------------------------------------- words and elements

const count = (value) => value.toLocaleString("en");
const share = (value) => `${(value / 2.55).toFixed(0)} %`;
const hundredths = (value) => (value / 255).toFixed(2);
const plural = (word) => word.endsWith("y") ? `${word.slice(0, -1)}ies` : `${word}s`;
const capital = (word) => word[0].toUpperCase() + word.slice(1);
const images = (value) => `${count(value)} ${value === 1 ? "image" : "images"}`;

/** Return a new element; children are nodes or plain text, never HTML. */
function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made && key !== "style") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}
const link = (target, ...words) => element("a", {href: target}, ...words);
const button = (words, onclick, more = {}) => element("button", {type: "button", onclick, ...more}, words);
const folded = (title, ...content) => element("details", {}, element("summary", {}, title), ...content);

function definitions(rows) {
  const list = element("dl", {className: "facts"});
  for (const [term, value] of rows) if (value !== null) list.append(element("dt", {}, term), element("dd", {}, value));
  return list;
}

/** Fill a list step by step: `make` returns the element of one item. */
function growing(box, items, make, step) {
  let shown = 0;
  const more = button("", () => grow());
  function grow() {
    box.append(...items.slice(shown, shown + step).map(make));
    shown = Math.min(items.length, shown + step);
    more.textContent = `Show more (${count(items.length - shown)} left)`;
    more.hidden = shown === items.length;
  }
  grow();
  return [box, more];
}

// ---------------------------------------------------------------- what is known of images and groups

const pointOf = new Map();
for (let i = 0; i < n; i++) pointOf.set(points.index[i], i);
const pathOf = (i) => data.paths && i < data.paths.rest.length ? data.paths.start + data.paths.rest[i] : "";
const nameOf = (cluster) => names[cluster] || "";
const called = (cluster) => cluster < 0 ? (noun === "cluster" ? "noise" : `in no ${noun}`)
  : `${noun} ${cluster}${nameOf(cluster) && ` ${nameOf(cluster)}`}`;
const isDoubtful = (cluster) => Boolean(sure && cluster >= 0 && sure.doubtful[cluster]);
const isThere = (c) => c >= 0 && c < nIds && clusters.size[c] > 0;  // ids of clusters that are gone have no images
const bySize = Array.from(clusters.size.keys()).filter(isThere).sort((a, b) => clusters.size[b] - clusters.size[a] || a - b);
const nClusters = bySize.length;

/** Points of each group as slices of one array; group -1 comes first. */
function grouped(values, nGroups) {
  const start = new Uint32Array(nGroups + 2), order = new Uint32Array(values.length);
  for (const value of values) start[value + 2]++;
  for (let g = 1; g < start.length; g++) start[g] += start[g - 1];
  const next = start.slice();
  values.forEach((value, i) => { order[next[value + 1]++] = i; });
  return (group) => order.subarray(start[group + 1], start[group + 2] ?? start[group + 1]);
}
const ofCluster = grouped(points.cluster, nIds);
const ofFamily = points.family && grouped(points.family, points.family.reduce((a, b) => Math.max(a, b), -1) + 1);

/** The pictured image nearest to the middle of each cluster stands for it on the map. */
const standsFor = new Int32Array(nIds).fill(-1);
{
  const away = new Float64Array(nIds).fill(Infinity);
  for (let i = 0; i < nPictures; i++) {
    const c = points.cluster[i];
    if (c < 0) continue;
    const sq = (points.x[i] - clusters.x[c]) ** 2 + (points.y[i] - clusters.y[c]) ** 2;
    if (sq < away[c]) { away[c] = sq; standsFor[c] = i; }
  }
}

/** Pictures in the order in which they get a place on the map. */
const pictureOrder = (() => {
  const first = bySize.map((c) => standsFor[c]).filter((i) => i >= 0), isFirst = new Set(first);
  for (let i = 0; i < nPictures; i++) if (!isFirst.has(i)) first.push(i);
  return first;
})();

function levelGroup(level, i) {
  const {is_clusters: own, label} = levels[level];
  return own ? points.cluster[i] : points.centroid[i] < 0 ? -1 : label[points.centroid[i]];
}
const levelName = ({name, is_clusters: own, size}) => own ? `clusters (${count(nClusters)})` : `${name} (${count(size.length)} groups)`;

// ---------------------------------------------------------------- state

const canvas = find("map"), context = canvas.getContext("2d"), panel = find("panel"), tip = find("tip");
const layer = document.createElement("canvas"), layerContext = layer.getContext("2d");
let dots = null;
const view = {x: 0, y: 0, scale: 1};
let home = 1, width = 0, height = 0, frame = 0, ink = {}, isKeyed = false;
let selection = {}, colouring = "cluster", picked = null, sorting = {key: "size", down: true};
let isShown = new Uint8Array(n).fill(1), clusterShown = new Uint8Array(nIds).fill(1), buckets = [], drawn = [];
const sheet = new Image(), density = new Image();
sheet.onload = density.onload = () => { redraw(); document.querySelectorAll("canvas.picture").forEach(paint); };
if (sprite) sheet.src = sprite.png;
density.src = data.density.png;

function isSelected(i) {
  if ("image" in selection) return points.index[i] === selection.image;
  if ("cluster" in selection) return points.cluster[i] === selection.cluster;
  if ("family" in selection) return points.family[i] === selection.family;
  if ("group" in selection) return levelGroup(selection.level, i) === selection.group;
  if ("region" in selection) {
    const [left, top, right, bottom] = boxOf(selection.region), [x, y] = [points.x[i], points.y[i]];
    return x >= left && x <= right && y >= top && y <= bottom;
  }
  return true;
}
const hasSelection = () => ["image", "cluster", "family", "group", "region"].some((key) => key in selection);
const [fromLeft, fromTop, step] = [data.place.left, data.place.top, data.place.step];
/** A rectangle [left, bottom, right, top] of the map of the run in numbers of this page, [left, top, right, bottom]; and back. */
const boxOf = ([left, bottom, right, top]) => [(left - fromLeft) / step, (fromTop - top) / step, (right - fromLeft) / step, (fromTop - bottom) / step];
const regionOf = ([left, top, right, bottom]) => [fromLeft + left * step, fromTop - bottom * step, fromLeft + right * step, fromTop - top * step]
  .map((value) => Number(value.toPrecision(6)));

/** The column of the user's that colours the points, if one does. */
const columnNow = () => colouring.startsWith("column") ? columns[Number(colouring.slice(6))] : null;
const number = (value) => String(Number(value.toPrecision(4)));
function valueOf({categories, values}, i) {
  const value = values[i];
  return categories ? categories[value] ?? "missing" : Number.isNaN(value) ? "missing" : number(value);
}

/** Number of the colour of a point: the palette, then grey, the ramp, the colours of words, and that of no value. */
function shadeOf(i) {
  const grey = data.palette.length, column = columnNow();
  if (column?.categories) return column.values[i] < 0 ? missing : column.values[i] < data.words.length ? firstWord + column.values[i] : grey;
  if (column) {
    const {limits: [low, high], values} = column, part = Math.min(1, Math.max(0, (values[i] - low) / (high - low || 1)));
    return Number.isNaN(values[i]) ? missing : grey + 1 + Math.round(part * (data.ramp.length - 1));
  }
  if (colouring === "strength") return grey + 1 + Math.round(points.strength[i] / 255 * (data.ramp.length - 1));
  if (colouring === "family") {
    const f = points.family[i];
    return f < 0 ? grey : f < families.colour.length ? families.colour[f] : f % grey;
  }
  if (colouring === "cluster" || levels[colouring].is_clusters) {
    return points.cluster[i] < 0 ? grey : clusters.colour[points.cluster[i]];
  }
  const group = levelGroup(colouring, i);
  return group < 0 ? grey : levels[colouring].colour[group];
}
const shades = [...data.palette, data.grey, ...data.ramp, ...data.words, data.grey], missing = shades.length - 1, firstWord = missing - data.words.length;

/** Sort the points that are shown by what they look like, so that each colour is set once. */
function arrange() {
  const least = Number(find("least").value) || 0, strength = 255 * Number(find("strength").value);
  const doubtful = find("doubtful").checked;
  for (let c = 0; c < nIds; c++) clusterShown[c] = isThere(c) && clusters.size[c] >= least && (!doubtful || isDoubtful(c));
  const bright = shades.map(() => []), faded = shades.map(() => []), picks = hasSelection() && !("image" in selection);
  const of = picked === null ? null : columnNow().values;
  let nShown = 0;
  for (let i = 0; i < n; i++) {
    const c = points.cluster[i];
    isShown[i] = points.strength[i] >= strength && (c < 0 ? !least && !doubtful : clusterShown[c]);
    if (!isShown[i]) continue;
    nShown++;
    (picks && !isSelected(i) || of && of[i] !== picked ? faded : bright)[shadeOf(i)].push(i);
  }
  // Grey lies below the colours, what is not selected below what is.
  const grey = data.palette.length, order = [missing, grey, ...shades.keys()].filter((s, at) => at < 2 || s !== grey && s !== missing);
  buckets = [...order.map((s) => ({colour: shades[s], alpha: 0.13, of: faded[s]})),
    ...order.map((s) => ({colour: shades[s], alpha: s === missing ? 0.2 : s === grey && !columnNow() ? 0.45 : 0.85, of: bright[s]}))];
  const kept = clusterShown.reduce((sum, each) => sum + each, 0);
  find("said").textContent = nShown === n && kept === nClusters ? ""
    : `${count(nShown)} of ${images(n)} and ${count(kept)} of ${count(nClusters)} ${plural(noun)} shown`;
  redraw();
}

// ---------------------------------------------------------------- drawing the map

const toScreen = (x, y) => [(x - view.x) * view.scale + width / 2, (y - view.y) * view.scale + height / 2];
const redraw = () => { frame ||= requestAnimationFrame(draw); };

function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["ink", "card", "accent", "line", "muted"]) ink[name] = style.getPropertyValue(`--${name}`).trim();
  redraw();
}

function draw() {
  frame = 0;
  const ratio = devicePixelRatio || 1, zoom = view.scale / home;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.imageSmoothingEnabled = true;
  if (density.complete && density.naturalWidth) {
    const [left, top, right, bottom] = data.density.box, [x, y] = toScreen(left, top);
    context.globalAlpha = Math.max(0.12, 0.55 / Math.sqrt(Math.max(1, zoom)));
    context.drawImage(density, x, y, (right - left) * view.scale, (bottom - top) * view.scale);
  }
  context.globalAlpha = 1;
  // Larger on a large map.
  const least = 1.3 * Math.min(2, Math.max(1, Math.min(width, height) / 600));
  drawPoints(ratio, Math.min(9, Math.max(least, Math.sqrt(3e4 / n)) * Math.max(1, zoom) ** 0.45));
  drawPictures(zoom);
  drawNames();
  const chosen = "image" in selection ? pointOf.get(selection.image) : undefined;
  if (chosen !== undefined) ring(...toScreen(points.x[chosen], points.y[chosen]), 12);
  if (isKeyed) ring(width / 2, height / 2, 7);
  if ("region" in selection) {
    const [left, top, right, bottom] = boxOf(selection.region);
    outline(toScreen(left, top), toScreen(right, bottom));
  }
  if (rubber) outline(...rubber);
}

function outline([left, top], [right, bottom]) {
  for (const [colour, line, dash] of [[ink.card, 3, []], [ink.accent, 2, [6, 4]]]) {
    context.strokeStyle = colour;
    context.lineWidth = line;
    context.setLineDash(dash);
    context.strokeRect(left, top, right - left, bottom - top);
  }
  context.setLineDash([]);
}

/** Draw the points pixel by pixel on a sheet of its own: tens of thousands of rectangles take too long. */
function drawPoints(ratio, size) {
  const side = Math.max(1, Math.ceil(size * ratio - 0.2)), scale = view.scale * ratio;
  const left = canvas.width / 2 - view.x * scale - side / 2, top = canvas.height / 2 - view.y * scale - side / 2;
  if (!canvas.width || !canvas.height) return;
  if (!dots || layer.width !== canvas.width || layer.height !== canvas.height) {
    Object.assign(layer, {width: canvas.width, height: canvas.height});
    dots = layerContext.createImageData(layer.width, layer.height);
  }
  const words = new Uint32Array(dots.data.buffer), wide = layer.width, high = layer.height;
  words.fill(0);
  for (const {colour, alpha, of} of buckets) {
    const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    const word = (Math.round(255 * alpha) << 24 | blue << 16 | green << 8 | red) >>> 0;
    for (const i of of) {
      const x = Math.round(points.x[i] * scale + left), y = Math.round(points.y[i] * scale + top);
      if (x < 0 || y < 0 || x + side > wide || y + side > high) continue;
      for (let row = y * wide + x, last = row + side * wide; row < last; row += wide) words.fill(word, row, row + side);
    }
  }
  layerContext.putImageData(dots, 0, 0);
  context.drawImage(layer, 0, 0, width, height);
}

function ring(x, y, radius) {
  for (const [colour, line] of [[ink.card, 4], [ink.accent, 2]]) {
    context.strokeStyle = colour;
    context.lineWidth = line;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.stroke();
  }
}

/** Draw pictures where they lie, as many as do not cover each other; more have room the closer one looks. */
function drawPictures(zoom) {
  drawn = [];
  if (!nPictures || !sheet.naturalWidth) return;
  const side = Math.min(64, (width < 500 ? 22 : 28) * zoom ** 0.3), apart = side * (zoom < 1.5 ? 2 : zoom < 4 ? 1.5 : 1.12);
  const long = Math.max(sprite.width, sprite.height), wide = side * sprite.width / long, tall = side * sprite.height / long;
  const cells = new Map(), isAlone = hasSelection() && !("image" in selection);
  const chosen = "image" in selection ? pointOf.get(selection.image) : undefined;
  const order = chosen < nPictures ? [chosen, ...pictureOrder] : pictureOrder;
  context.imageSmoothingEnabled = false;
  for (const i of order) {
    if (!isShown[i] && i !== chosen || isAlone && !isSelected(i)) continue;
    const [x, y] = toScreen(points.x[i], points.y[i]);
    if (x < 0 || y < 0 || x > width || y > height) continue;
    const column = Math.floor(x / apart), row = Math.floor(y / apart);
    let isFree = true;
    for (let c = column - 1; c <= column + 1 && isFree; c++) {
      for (let r = row - 1; r <= row + 1 && isFree; r++) {
        isFree = !(cells.get(`${c},${r}`) || []).some(([a, b]) => Math.abs(a - x) < apart && Math.abs(b - y) < apart);
      }
    }
    if (!isFree) continue;
    const key = `${column},${row}`;
    cells.set(key, [...(cells.get(key) || []), [x, y]]);
    drawn.push({i, left: x - wide / 2, top: y - tall / 2, wide, tall});
  }
  for (const {i, left, top} of drawn) {
    context.fillStyle = shades[shadeOf(i)];
    context.fillRect(left - 2, top - 2, wide + 4, tall + 4);
    context.drawImage(sheet, ...tileOf(i), left, top, wide, tall);
  }
}
const tileOf = (i) => [i % sprite.columns * sprite.width, Math.floor(i / sprite.columns) * sprite.height, sprite.width, sprite.height];

/** Write numbers and names of the largest clusters in sight where they do not cover each other. */
function drawNames() {
  const taken = [], placed = new Map();
  for (const each of drawn) if (!placed.has(points.cluster[each.i])) placed.set(points.cluster[each.i], each);
  context.textAlign = "center";
  context.textBaseline = "bottom";
  context.lineJoin = "round";
  for (const c of bySize) {
    if (taken.length > 80) break;
    if (!clusterShown[c] || clusters.x[c] < 0 || "cluster" in selection && selection.cluster !== c) continue;
    let [x, y] = toScreen(clusters.x[c], clusters.y[c]);
    const beside = placed.get(c);
    if (beside) [x, y] = [beside.left + beside.wide / 2, beside.top - 3];
    if (x < 0 || y < 12 || x > width || y > height) continue;
    const name = nameOf(c), words = `${c}${name && ` ${name}`}`.slice(0, 24);
    // About the width, which takes long to measure for very many.
    const wide = words.length * (name ? 4.2 : 3.7) + 3;
    if (taken.some(([a, b, w]) => Math.abs(a - x) < w + wide && Math.abs(b - y) < 15)) continue;
    if (!beside && drawn.some((each) => x > each.left - wide && x < each.left + each.wide + wide && y > each.top && y < each.top + each.tall + 14)) continue;
    context.font = `600 ${name ? 14 : 12}px system-ui, sans-serif`;
    taken.push([x, y, wide]);
    context.strokeStyle = ink.card;
    context.lineWidth = 3.5;
    context.strokeText(words, x, y);
    context.fillStyle = ink.ink;
    context.fillText(words, x, y);
  }
}

// ---------------------------------------------------------------- moving

function showAll() {
  const [left, top, right, bottom] = data.density.box;
  home = Math.min(width / (right - left), height / (bottom - top)) * 0.98 || 1;
  Object.assign(view, {x: (left + right) / 2, y: (top + bottom) / 2, scale: home});
  redraw();
}

function zoomBy(factor, x = width / 2, y = height / 2) {
  const scale = Math.min(home * 400, Math.max(home * 0.5, view.scale * factor));
  view.x += (x - width / 2) * (1 / view.scale - 1 / scale);
  view.y += (y - height / 2) * (1 / view.scale - 1 / scale);
  view.scale = scale;
  redraw();
}

function moveBy(x, y) {
  view.x -= x / view.scale;
  view.y -= y / view.scale;
  redraw();
}

/** Show points in the middle of the map, all but a few far out. */
function lookAt(some) {
  if (!some.length || !width) return;
  const [xs, ys] = [points.x, points.y].map((axis) => Float64Array.from(some, (i) => axis[i]).sort());
  const at = (axis, part) => axis[Math.round(part * (axis.length - 1))];
  const [left, right, top, bottom] = [at(xs, 0.02), at(xs, 0.98), at(ys, 0.02), at(ys, 0.98)];
  const scale = 0.7 * Math.min(width / Math.max(1, right - left), height / Math.max(1, bottom - top));
  Object.assign(view, {x: (left + right) / 2, y: (top + bottom) / 2,
    scale: Math.min(home * (some.length === 1 ? 8 : 40), Math.max(home, scale))});
  redraw();
}

/** Points in squares of the map, to find the nearest one soon. */
const squares = 128, squareOf = (x, y) => Math.min(squares - 1, x >> 9) + squares * Math.min(squares - 1, y >> 9);
const inSquare = grouped(Uint16Array.from({length: n}, (_, i) => squareOf(points.x[i], points.y[i])), squares * squares);

function nearest(x, y, within) {
  const over = drawn.findLast((each) => x >= each.left && y >= each.top && x <= each.left + each.wide && y <= each.top + each.tall);
  if (over) return over.i;
  const at = (px, mid, from) => Math.min(65535, Math.max(0, (px - mid) / view.scale + from));
  const [left, right] = [at(x - within, width / 2, view.x), at(x + within, width / 2, view.x)].map((v) => v >> 9);
  const [top, bottom] = [at(y - within, height / 2, view.y), at(y + within, height / 2, view.y)].map((v) => v >> 9);
  let best = -1, least = within * within;
  for (let row = top; row <= bottom; row++) {
    for (let column = left; column <= right; column++) {
      for (const i of inSquare(column + squares * row)) {
        if (!isShown[i]) continue;
        const [a, b] = toScreen(points.x[i], points.y[i]), sq = (a - x) ** 2 + (b - y) ** 2;
        if (sq <= least) { least = sq; best = i; }
      }
    }
  }
  return best;
}

function showTip(i, x, y) {
  tip.hidden = i < 0;
  if (i < 0) return;
  tip.replaceChildren(picture(i, 96) || "", element("div", {},
    element("b", {}, `image ${points.index[i]}`), element("div", {className: "file"}, pathOf(i)),
    element("div", {}, capital(called(points.cluster[i]))),
    points.family && points.family[i] >= 0 ? element("div", {}, `family ${points.family[i]}`) : "",
    columnNow() ? element("div", {}, `${columnNow().name}: ${valueOf(columnNow(), i)}`) : "",
    element("div", {}, `strength ${hundredths(points.strength[i])}`)));
  tip.style.left = `${Math.max(4, Math.min(x + 14, width - tip.offsetWidth - 4))}px`;
  tip.style.top = `${Math.max(4, y + 14 + tip.offsetHeight > height ? y - tip.offsetHeight - 14 : y + 14)}px`;
}

const touches = new Map();
// Two corners of what is being selected, and whether the next drag selects without shift.
let moved = 0, rubber = null, isSelecting = false;
function selecting(on) {
  isSelecting = on;
  find("select").setAttribute("aria-pressed", String(on));
}
/** Select what lies between two corners on the screen. */
function selectBetween([x0, y0], [x1, y1]) {
  const onMap = (x, y) => [(x - width / 2) / view.scale + view.x, (y - height / 2) / view.scale + view.y];
  const corners = [...onMap(Math.min(x0, x1), Math.min(y0, y1)), ...onMap(Math.max(x0, x1), Math.max(y0, y1))];
  go(`#region=${regionOf(corners).join()}`, false);
}
const placeOf = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoomBy(Math.exp(-Math.max(-60, Math.min(60, event.deltaY)) * 0.004), ...placeOf(event));
}, {passive: false});
canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  touches.set(event.pointerId, placeOf(event));
  moved = touches.size > 1 ? Infinity : 0;
  isKeyed = false;
  rubber = touches.size === 1 && (event.shiftKey || isSelecting) ? [placeOf(event), placeOf(event)] : null;
});
canvas.addEventListener("pointermove", (event) => {
  const now = placeOf(event), before = touches.get(event.pointerId);
  if (!before) return showTip(nearest(...now, 12), ...now);
  const [other] = [...touches].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
  if (other) {
    const far = (place) => Math.hypot(place[0] - other[0], place[1] - other[1]) || 1;
    zoomBy(far(now) / far(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    moveBy((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
  } else {
    moved += Math.hypot(now[0] - before[0], now[1] - before[1]);
    if (rubber) {
      rubber[1] = now;
      redraw();
    } else moveBy(now[0] - before[0], now[1] - before[1]);
  }
  touches.set(event.pointerId, now);
  if (moved > 5) showTip(-1);
});
canvas.addEventListener("pointerup", (event) => {
  touches.delete(event.pointerId);
  const corners = rubber;
  rubber = null;
  if (corners && moved > 5) {
    selecting(false);
    selectBetween(...corners);
  }
  if (moved > 5) return;
  const place = placeOf(event), i = nearest(...place, event.pointerType === "touch" ? 22 : 12);
  showTip(i, ...place);
  const isPicture = drawn.some((each) => each.i === i);
  if (i < 0) go("#view=clusters", false);
  else go(isPicture || selection.cluster === points.cluster[i] ? `#image=${points.index[i]}` : `#cluster=${points.cluster[i]}`, false);
});
canvas.addEventListener("pointercancel", (event) => { touches.delete(event.pointerId); rubber = null; redraw(); });
canvas.addEventListener("pointerleave", () => { if (!touches.size) showTip(-1); });
canvas.addEventListener("blur", () => { isKeyed = false; showTip(-1); redraw(); });
canvas.addEventListener("keydown", (event) => {
  const step = 60, keys = {
    "+": () => zoomBy(1.4), "=": () => zoomBy(1.4), "-": () => zoomBy(1 / 1.4), "0": showAll,
    ArrowLeft: () => moveBy(step, 0), ArrowRight: () => moveBy(-step, 0), ArrowUp: () => moveBy(0, step), ArrowDown: () => moveBy(0, -step),
    Enter: () => { const i = nearest(width / 2, height / 2, 40); if (i >= 0) go(`#image=${points.index[i]}`, false); },
    s: () => selectBetween([0, 0], [width, height]),
    Escape: () => { rubber = null; selecting(false); go("#view=clusters", false); },
  };
  if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  isKeyed = true;
  keys[event.key]();
  draw();
  showTip(nearest(width / 2, height / 2, 40), width / 2, height / 2);
});
find("zoom-in").onclick = () => zoomBy(1.5);
find("zoom-out").onclick = () => zoomBy(1 / 1.5);
find("zoom-all").onclick = showAll;
find("select").onclick = () => selecting(!isSelecting);

// ---------------------------------------------------------------- pictures in the panel

/** Return the picture of a point, or null where the page has none of it. */
function picture(i, side) {
  if (i === undefined || i >= nPictures) return null;
  const scale = Math.max(1, Math.floor(side / Math.max(sprite.width, sprite.height)));
  const made = element("canvas", {className: "picture", width: sprite.width * scale, height: sprite.height * scale, role: "img", "aria-label": `image ${points.index[i]}`});
  made.dataset.point = i;
  paint(made);
  return made;
}

function paint(made) {
  if (!sheet.naturalWidth) return;
  const on = made.getContext("2d");
  on.imageSmoothingEnabled = false;
  on.drawImage(sheet, ...tileOf(Number(made.dataset.point)), 0, 0, made.width, made.height);
}

const fromServer = (index) => element("img", {src: `api/image/${index}.png`, alt: `image ${index}`, loading: "lazy"});
const tile = (index, words, shown) => element("a", {className: "tile", href: `#image=${index}`, title: words}, shown);
const pointTile = (i) => tile(points.index[i], `image ${points.index[i]}, strength ${hundredths(points.strength[i])} ${pathOf(i)}`, picture(i, 48));

async function ask(address, options) {
  const answer = await fetch(address, options), found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(found.error || `the server answered ${answer.status}`);
  return found;
}

/** Show images of a cluster, a family or a region: of the server all, of one file those that it shows. */
function members(key, value, some) {
  const box = element("div"), orders = {
    strongest: (a, b) => points.strength[b] - points.strength[a],
    weakest: (a, b) => points.strength[a] - points.strength[b],
    outliers: (a, b) => points.outlier[b] - points.outlier[a],
  };
  const total = key === "cluster" && value >= 0 ? clusters.size[value] : key === "family" ? families.size[value] : null;
  const buttons = Object.keys(orders).map((name) => button(capital(name), () => show(name), {"aria-pressed": "false"}));
  function show(name) {
    buttons.forEach((each) => each.setAttribute("aria-pressed", String(each.textContent === capital(name))));
    if (server && name !== "outliers") return showServed(name);
    const sorted = Array.from(some).sort((a, b) => orders[name](a, b) || points.index[a] - points.index[b]);
    const pictured = sorted.filter((i) => i < nPictures), tiles = element("div", {className: "tiles"});
    const rows = element("tbody");
    const line = (i) => element("tr", {}, element("td", {}, link(`#image=${points.index[i]}`, String(points.index[i]))),
      element("td", {}, hundredths(points.strength[i])), element("td", {}, hundredths(points.outlier[i])), element("td", {className: "file"}, pathOf(i)));
    const whole = element("table", {}, element("thead", {}, element("tr", {}, ["image", "strength", "outlier score", "file"].map((text) => element("th", {scope: "col"}, text)))), rows);
    const [, more] = growing(rows, sorted, line, ROWS);
    box.replaceChildren(
      element("p", {className: "hint"}, `${images(sorted.length)}${total !== null && total > sorted.length ? ` of ${count(total)}` : ""} on this page, ${count(pictured.length)} with a picture`),
      ...growing(tiles, pictured, pointTile, PAGE),
      folded("As a table", element("div", {className: "scroll"}, whole), more));
    return undefined;
  }
  async function showServed(name) {
    const tiles = element("div", {className: "tiles"}), hint = element("p", {className: "hint"}), more = button("Show more", next);
    let offset = 0;
    box.replaceChildren(hint, tiles, more);
    async function next() {
      try {
        const found = await ask(`api/members?${key}=${value}&order=${name}&offset=${offset}&limit=${PAGE}`);
        tiles.append(...found.rows.map((row) => tile(row.sample, `image ${row.sample}, strength ${row.strength.toFixed(2)} ${row.path || ""}`, fromServer(row.sample))));
        offset += found.rows.length;
        hint.textContent = `${count(offset)} of ${images(found.total)}`;
        more.hidden = offset >= found.total || !found.rows.length;
      } catch (error) { hint.textContent = error.message; }
    }
    await next();
  }
  show("strongest");
  return [element("h3", {}, "Images"), element("div", {className: "choice", role: "group", "aria-label": "Order"}, buttons), box];
}

// ---------------------------------------------------------------- panels

const swatch = (colour) => element("span", {className: "swatch", style: `background:${colour}`, "aria-hidden": "true"});
const clusterColour = (c) => c < 0 ? data.grey : data.palette[clusters.colour[c]];
const clusterLink = (c) => link(`#cluster=${c}`, capital(called(c)));
const small = (i) => { const made = i < 0 ? null : picture(i, 26); made?.classList.add("small"); return made; };
const mark = (c) => isDoubtful(c) ? element("span", {className: "mark"}, "doubtful") : null;

function showList() {
  const columns = [
    {key: "number", name: noun, of: (c) => c},
    {key: "size", name: "images", of: (c) => clusters.size[c], words: (c) => count(clusters.size[c])},
    {key: "strength", name: "strength", of: (c) => clusters.strength[c], words: (c) => clusters.strength[c] < 0 ? "" : hundredths(clusters.strength[c])},
    ...(sure ? [{key: "again", name: "found again", of: (c) => sure.found_again[c], words: (c) => share(sure.found_again[c])}] : []),
  ];
  const by = columns.find(({key}) => key === sorting.key) || columns[1], sign = sorting.down ? -1 : 1;
  const sorted = bySize.filter((c) => clusterShown[c]).sort((a, b) => sign * (by.of(a) - by.of(b)) || a - b);
  const head = columns.map(({key, name}) => element("th", {scope: "col", "aria-sort": key === by.key ? (sorting.down ? "descending" : "ascending") : "none"},
    button(`${name}${key === by.key ? (sorting.down ? " \u25be" : " \u25b4") : ""}`, () => {
      sorting = {key, down: key === by.key ? !sorting.down : key !== "number"};
      showList();
      panel.querySelectorAll("th button")[columns.findIndex((each) => each.key === key)].focus();
    })));
  const body = element("tbody");
  const line = (c) => element("tr", {}, element("th", {scope: "row"}, swatch(clusterColour(c)), small(standsFor[c]), link(`#cluster=${c}`, `${c}${nameOf(c) && ` ${nameOf(c)}`}`), mark(c)),
    columns.slice(1).map(({words}) => element("td", {className: "num"}, words(c))));
  const [, more] = growing(body, sorted, line, ROWS);
  const noise = ofCluster(-1).length ? element("p", {}, swatch(data.grey), clusterLink(-1)) : null;
  panel.replaceChildren(...[element("table", {className: "list"}, element("caption", {}, `${count(sorted.length)} of ${count(nClusters)} ${plural(noun)}`),
    element("thead", {}, element("tr", {}, head)), body), more, noise, server === "edit" ? undo() : null].filter(Boolean));
}

function showCluster(c) {
  const own = ofCluster(c), facts = [];
  if (c >= 0) {
    facts.push(["images", `${count(clusters.size[c])} (${(100 * clusters.size[c] / data.n_samples).toFixed(1)} %)`],
      ["strength, mean", clusters.strength[c] < 0 ? null : hundredths(clusters.strength[c])],
      ["found again", sure ? share(sure.found_again[c]) : null],
      ["weakest border", sure?.border && sure.nearest[c] >= 0 ? element("span", {}, `${hundredths(sure.border[c])}, to `, clusterLink(sure.nearest[c])) : null]);
  }
  panel.replaceChildren(element("h2", {}, swatch(clusterColour(c)), capital(called(c)), mark(c) || ""),
    definitions(facts), ...(c >= 0 && server === "edit" ? [edits(c)] : []), ...members("cluster", c, own), ...(c >= 0 ? [...neighbours(c), ...familiesIn(c)] : []));
}

function neighbours(c) {
  const most = clusters.n_neighbors, rows = [];
  for (let k = 0; k < most; k++) {
    const other = clusters.neighbors[c * most + k];
    if (other >= 0) rows.push([clusterLink(other), `${images(clusters.flow[c * most + k])} between`]);
  }
  if (!rows.length && sure && sure.nearest[c] >= 0) rows.push([clusterLink(sure.nearest[c]), "the nearest"]);
  return rows.length ? [element("h3", {}, "Neighbours"), definitions(rows)] : [];
}

function familiesIn(c) {
  if (!families) return [];
  const inside = Array.from(families.cluster.keys()).filter((f) => families.cluster[f] === c);
  if (!inside.length) return [];
  const list = element("ul", {className: "plain"});
  const line = (f) => element("li", {}, link(`#family=${f}`, `Family ${f}`), ` ${images(families.size[f])}, ${share(families.share[f])} of them here`);
  return [element("h3", {}, `Families (${count(inside.length)})`), ...growing(list, inside, line, 8)];
}

function showFamily(f) {
  if (!families || f >= families.size.length) return say(`Family ${f} is not among the ${count(families ? families.size.length : 0)} families of this page.`);
  panel.replaceChildren(element("h2", {}, `Family ${f}`), element("p", {className: "hint"}, "Images of one source."),
    definitions([["images", count(families.size[f])], ["conductance", hundredths(families.conductance[f])], [noun, clusterLink(families.cluster[f])], ["of it there", share(families.share[f])]]),
    ...members("family", f, ofFamily(f)));
  return undefined;
}

function showRegion(region, some) {
  const total = element("span", {}, images(some.length)), here = new Map(), list = element("ul", {className: "plain"});
  for (const i of some) here.set(points.cluster[i], (here.get(points.cluster[i]) || 0) + 1);
  const most = [...here].sort((a, b) => b[1] - a[1] || a[0] - b[0]), isWhole = n === data.n_samples;
  const line = ([c, times]) => element("li", {}, swatch(clusterColour(c)), clusterLink(c), ` ${images(times)}`);
  panel.replaceChildren(element("h2", {}, "Images in a rectangle"),
    element("p", {}, total, isWhole ? " lie in it." : ` of the ${count(n)} on this page lie in it; the run has ${images(data.n_samples)}.`),
    element("p", {className: "hint"}, isWhole ? "To list them: " : "To list all of the run: ", element("code", {}, `${data.list_command} --region=${region.join()}`)),
    ...members("region", region.join(), some),
    ...(most.length ? [element("h3", {}, capital(plural(noun)) + (isWhole ? "" : ", by the images on this page")), ...growing(list, most, line, 8)] : []),
    folded(isWhole ? "Their numbers" : "Numbers of those on this page",
      element("textarea", {readOnly: true, rows: 6, "aria-label": "Numbers of the images", value: some.map((i) => points.index[i]).sort((a, b) => a - b).join(", ")})));
}

function showImage(index) {
  const i = pointOf.get(index);
  if (i === undefined && !server) return say(`Image ${index} is not among the ${images(n)} that this page shows one by one. All: `, element("code", {}, data.command));
  const title = element("h2", {}, `Image ${index}`), facts = element("div"), more = element("div");
  const show = ({path, cluster, family, strength, outlier_score: outlier, columns: own}) => facts.replaceChildren(definitions([
    ["file", path ? element("span", {className: "file"}, path) : null], [noun, clusterLink(cluster)],
    ["family", family === undefined || family < 0 ? null : link(`#family=${family}`, `Family ${family}`)],
    ["strength", strength.toFixed(2)], ["outlier score", outlier.toFixed(2)], ...Object.entries(own || {})]));
  if (i !== undefined) show({path: pathOf(i), cluster: points.cluster[i], family: points.family?.[i], strength: points.strength[i] / 255, outlier_score: points.outlier[i] / 255,
    columns: Object.fromEntries(columns.map((column) => [column.name, valueOf(column, i)]))});
  panel.replaceChildren(title, element("div", {className: "large"}, (server ? fromServer(index) : picture(i, 192)) || element("p", {className: "hint"}, "No picture of it is on this page. All: ", element("code", {}, data.command))), facts, more);
  if (!server) return undefined;
  const still = () => selection.image === index;
  ask(`api/row/${index}`).then((row) => still() && show(row), (error) => facts.append(error.message));
  ask(`api/similar?index=${index}`).then(({neighbors}) => still() && more.replaceChildren(element("h3", {}, "Similar images"),
    element("div", {className: "tiles"}, neighbors.map((each) => tile(each.sample, `image ${each.sample}, distance ${each.distance.toPrecision(3)} ${each.path || ""}`, fromServer(each.sample))))),
  (error) => still() && more.replaceChildren(error.message));
  return undefined;
}

const say = (...words) => panel.replaceChildren(element("p", {}, ...words));

// ---------------------------------------------------------------- the tree

const below = levels.map((level, at) => at + 1 < levels.length ? grouped(levels[at + 1].parent, level.size.length) : () => []);
/** The picture that stands for each group: the first that has a place on the map. */
const firstPicture = levels.map((_, level) => {
  const first = new Map();
  for (const i of pictureOrder) if (!first.has(levelGroup(level, i))) first.set(levelGroup(level, i), i);
  return first;
});
const target = (level, group) => levels[level].is_clusters ? `#cluster=${group}` : `#level=${level}&group=${group}`;
const groupName = (level, group) => levels[level].is_clusters ? capital(called(group)) : `${capital(levels[level].name)}, group ${group}`;

function branches(level, groups) {
  const list = element("ul", {className: "tree"}), largest = Array.from(groups).sort((a, b) => levels[level].size[b] - levels[level].size[a] || a - b);
  function line(group) {
    const inside = below[level](group), item = element("li");
    const opener = button("", () => {
      const isOpen = opener.getAttribute("aria-expanded") === "true";
      opener.setAttribute("aria-expanded", String(!isOpen));
      if (isOpen) item.lastElementChild.remove();
      else item.append(branches(level + 1, inside));
    }, {className: "opener", "aria-expanded": "false", "aria-label": `What ${groupName(level, group)} parts into`});
    if (!inside.length) opener.disabled = true;
    const colours = levels[level].is_clusters ? clusters.colour : levels[level].colour;
    item.append(opener, swatch(data.palette[colours[group]]), small(firstPicture[level].get(group) ?? -1) || "",
      link(target(level, group), groupName(level, group)), ` ${images(levels[level].size[group])}`);
    return item;
  }
  return element("div", {}, ...growing(list, largest, line, ROWS));
}

function showTree() {
  if (!levels.length) return say("There are no layers: the tree has one group.");
  panel.replaceChildren(element("p", {className: "hint"}, "Layers of the tree, from coarse to fine: each group parts into those below it."), branches(0, levels[0].size.keys()),
    ...levels.slice(1).map((level, at) => [level, at + 1, below[at](-1)]).filter(([, , alone]) => alone.length)
      .map(([level, at, alone]) => folded(`${capital(levelName(level))}: ${count(alone.length)} in no group above`, branches(at, alone))));
  return undefined;
}

function showGroup(level, group) {
  const inside = below[level](group), of = levels[level];
  panel.replaceChildren(element("h2", {}, groupName(level, group)),
    definitions([["images", count(of.size[group])], ["within", level && of.parent[group] >= 0 ? link(target(level - 1, of.parent[group]), groupName(level - 1, of.parent[group])) : null]]),
    ...(inside.length ? [element("h3", {}, "Parts into"), branches(level + 1, inside)] : []));
}

// ---------------------------------------------------------------- names, merging, splitting

function edits(c) {
  const said = element("p", {className: "hint", "aria-live": "polite"});
  async function change(what, body) {
    said.textContent = "working ...";
    try {
      await ask(`api/${what}`, {method: "POST", headers: {"Content-Type": "application/json", "X-Overcluster": "1"}, body: JSON.stringify(body)});
      location.reload();
    } catch (error) { said.textContent = error.message; }
  }
  if (c === null) return element("div", {}, button("Undo the last change", () => change("undo", {})), said);
  const form = (words, field, send) => element("form", {onsubmit: (event) => { event.preventDefault(); send(field.value); }}, field, element("button", {}, words));
  const name = element("input", {value: nameOf(c), "aria-label": "Name", placeholder: "name"});
  const other = element("input", {type: "number", min: 0, max: nIds - 1, required: true, "aria-label": "Cluster to merge with", placeholder: "cluster"});
  return element("div", {className: "edits"}, form("Name it", name, (value) => change("name", {cluster: c, name: value})),
    form("Merge with", other, (value) => change("merge", {clusters: [c, Number(value)]})),
    button("Split it", () => change("split", {cluster: c})), said);
}
const undo = () => edits(null);

// ---------------------------------------------------------------- search

async function search(text) {
  const sought = text.trim().toLowerCase(), number = /^\d+$/.test(sought) ? Number(sought) : null, hits = [];
  if (!sought) return go("#view=clusters");
  if (number !== null && isThere(number)) hits.push([`#cluster=${number}`, capital(called(number))]);
  if (number !== null && number < data.n_samples) hits.push([`#image=${number}`, `Image ${number}`]);
  for (const [c, name] of Object.entries(names)) if (name.toLowerCase().includes(sought)) hits.push([`#cluster=${c}`, capital(called(Number(c)))]);
  const isPathKnown = (i) => pathOf(i).toLowerCase().includes(sought);
  if (server) {
    try {
      const found = await ask(`api/find?path=${encodeURIComponent(text.trim())}`);
      hits.push(...found.rows.map((row) => [`#image=${row.sample}`, row.path || `Image ${row.sample}`]));
    } catch (error) { hits.push(["#view=clusters", error.message]); }
  } else for (let i = 0; data.paths && i < n && hits.length < 40; i++) if (isPathKnown(i)) hits.push([`#image=${points.index[i]}`, pathOf(i)]);
  if (hits.length === 1) return go(hits[0][0]);
  tabs("");
  panel.replaceChildren(element("h2", {}, hits.length ? `Found for \u201c${text.trim()}\u201d` : `Nothing was found for \u201c${text.trim()}\u201d`),
    hits.length ? element("ul", {className: "plain"}, hits.map(([where, words]) => element("li", {className: "file"}, link(where, words))))
      : element("p", {className: "hint"}, `A ${noun} is found by its number or name, an image by its number or a part of its file name.`));
  return undefined;
}

// ---------------------------------------------------------------- addresses

let follows = true;
function go(address, isFollowed = true) {
  follows = isFollowed;
  if (location.hash === address) route();
  else location.hash = address;
}

function tabs(current) {
  for (const name of ["clusters", "tree"]) {
    if (name === current) find(`tab-${name}`).setAttribute("aria-current", "true");
    else find(`tab-${name}`).removeAttribute("aria-current");
  }
}

/** Show what the address names; addresses of other parts of the page change nothing. */
function route() {
  const asked = new URLSearchParams(location.hash.slice(1)), number = (key) => asked.has(key) && /^-?\d+$/.test(asked.get(key)) ? Number(asked.get(key)) : null;
  const isOurs = ["image", "cluster", "family", "group", "region", "view"].some((key) => asked.has(key));
  if (location.hash && !isOurs && panel.hasChildNodes()) return;
  const [image, cluster, family, level, group] = ["image", "cluster", "family", "level", "group"].map(number);
  const region = (asked.get("region") ?? "").split(",").map(Number);
  selection = {};
  tabs("");
  let some = [];
  if (image !== null) {
    selection = {image};
    if (pointOf.has(image)) some = [pointOf.get(image)];
    showImage(image);
  } else if (cluster !== null) {
    if (cluster === -1 || isThere(cluster)) {
      selection = {cluster};
      some = cluster < 0 ? [] : ofCluster(cluster);
      if (follows && !some.length && clusters.x[cluster] >= 0) Object.assign(view, {x: clusters.x[cluster], y: clusters.y[cluster], scale: home * 8});
      showCluster(cluster);
    } else say(`There is no ${noun} ${cluster}: the list has ${count(nClusters)}.`);
  } else if (family !== null) {
    if (ofFamily && family >= 0) {
      selection = {family};
      some = ofFamily(family);
    }
    showFamily(family);
  } else if (level !== null && group !== null && levels[level] && group < levels[level].size.length) {
    selection = {level, group};
    colourBy(String(level));
    some = Array.from({length: n}, (_, i) => i).filter(isSelected);
    showGroup(level, group);
  } else if (region.length === 4 && region[0] <= region[2] && region[1] <= region[3]) {
    selection = {region};
    some = Array.from({length: n}, (_, i) => i).filter(isSelected);
    showRegion(region, some);
  } else if (asked.get("view") === "tree") {
    tabs("tree");
    showTree();
  } else {
    tabs("clusters");
    if (sure && asked.get("view") === "doubtful") sorting = {key: "again", down: false};
    showList();
  }
  panel.scrollTop = 0;
  arrange();
  if (follows && some.length) lookAt(some);
  if (follows && isOurs && innerWidth < 900) panel.scrollIntoView({block: "nearest"});
  follows = true;
  if (isFramed) window.parent.postMessage({overcluster: told(), begins}, "*");
  begins = false;
}

// ---------------------------------------------------------------- in a frame of a notebook

let begins = true;

/** The selection in the words of the run: its layers are numbered otherwise than the levels of this page. */
function told() {
  if (!("group" in selection)) return selection;
  const {is_clusters: own, layer} = levels[selection.level];
  return own ? {cluster: selection.group} : {layer, group: selection.group};
}

if (isFramed) {
  addEventListener("message", ({source, data: sent}) => {
    if (source !== window.parent || !sent?.overcluster) return;
    const {layer, group, ...one} = sent.overcluster, level = levels.findIndex((each) => each.layer === layer);
    const [key, value] = Object.entries(one)[0] || ["view", "clusters"];
    if (layer === undefined) go(`#${key}=${value}`);
    else if (level >= 0) go(target(level, group));
  });
  // A frame may have no address of its own, and links would lead to that of the notebook.
  document.addEventListener("click", (event) => {
    const asked = event.target.closest('a[href^="#"]');
    if (!asked) return;
    event.preventDefault();
    location.hash = asked.getAttribute("href");
  });
}

// ---------------------------------------------------------------- what the colours mean

function colourBy(what) {
  colouring = find("colour").value = what;
  picked = null;
  showLegend();
}

function showLegend() {
  const box = find("legend"), column = columnNow(), scale = colouring === "strength" ? {name: "strength", limits: [0, 1], missing: 0} : column;
  box.hidden = !scale;
  if (!scale) return;
  const {name, categories, counts, limits, missing: absent} = scale, key = (colour, ...words) => [swatch(colour), ...words];
  const rest = absent ? element("li", {}, key(`${data.grey}55`, `missing (${count(absent)})`)) : "";
  if (!categories) {
    box.replaceChildren(element("b", {}, name), element("div", {className: "ramp", style: `background:linear-gradient(90deg,${data.ramp})`}),
      element("div", {className: "ends"}, element("span", {}, number(limits[0])), element("span", {}, number(limits[1]))), element("ul", {className: "plain"}, rest));
    return;
  }
  const list = element("ul", {className: "plain"}), own = data.words.length;
  const line = (code) => element("li", {}, button(key(data.words[code] || data.grey, `${categories[code]} (${count(counts[code])})`), (event) => {
    picked = picked === code ? null : code;
    for (const each of list.querySelectorAll("button")) each.setAttribute("aria-pressed", String(picked !== null && each === event.currentTarget));
    arrange();
  }, {"aria-pressed": "false"}));
  box.replaceChildren(element("details", {open: innerWidth > 560}, element("summary", {}, name), element("p", {className: "hint"}, "Click one to see it alone."), ...growing(list, categories.map((_, code) => code), line, 12),
    element("ul", {className: "plain"}, rest),
    categories.length > own ? element("p", {className: "hint"}, `The ${own} most frequent have a colour each, others are grey.`) : ""));
}

// ---------------------------------------------------------------- start

const colour = find("colour");
colour.append(element("option", {value: "cluster"}, noun), ...(families ? [element("option", {value: "family"}, "family")] : []), element("option", {value: "strength"}, "strength"),
  ...levels.map((level, at) => level.is_clusters ? null : element("option", {value: String(at)}, levelName(level))).filter(Boolean));
if (columns.length) colour.append(element("optgroup", {label: "your columns"}, columns.map(({name}, at) => element("option", {value: `column${at}`}, name))));
colour.onchange = () => { colourBy(colour.value); arrange(); };
const filtered = () => {
  find("strength-said").textContent = find("strength").value;
  arrange();
  if (!hasSelection() && find("tab-clusters").hasAttribute("aria-current")) showList();
};
for (const id of ["least", "strength", "doubtful"]) find(id).addEventListener("input", filtered);
find("doubtful-label").hidden = !sure;
find("unfilter").onclick = () => { find("tools").reset(); colour.value = colouring; filtered(); };
showLegend();
find("tools").onsubmit = (event) => { event.preventDefault(); search(find("find").value); };
find("tab-clusters").textContent = capital(plural(noun));
find("tab-tree").hidden = !levels.length;
find("shown").textContent = `Each point is an image; images that are alike lie side by side. ${n < data.n_samples ? `${count(n)} of ${images(data.n_samples)}` : `All ${images(n)}`} are points`
  + `${data.n_drawn < data.n_samples ? `, ${count(data.n_drawn)} make the grey density` : ""}${nPictures ? `; ${count(nPictures)} have a picture` : ""}.`;
find("still")?.remove();
find("explore").hidden = false;
new ResizeObserver(() => {
  const wasHome = !width || view.scale === home;
  [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = width * (devicePixelRatio || 1);
  canvas.height = height * (devicePixelRatio || 1);
  const scale = view.scale / home, {x, y} = view;
  showAll();
  if (!wasHome) Object.assign(view, {x, y, scale: home * scale});
  draw();
}).observe(canvas);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", readColours);
addEventListener("hashchange", route);
[width, height] = [canvas.clientWidth, canvas.clientHeight];
readColours();
showAll();
route();
})();
