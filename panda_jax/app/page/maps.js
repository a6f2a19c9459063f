// Maps of parts on the cells of the picture, and their drawings.

import {isSide, session} from './session.js';

export const bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const NEAR = 96, HALF = 128; // of 255: a part is coloured from NEAR upwards, its outline is at HALF

// Maps from the server: {shape: [parts, rows, columns], bytes}.
export function unpacked({shape: [count, rows, columns], bytes}) {
  const all = typeof bytes === 'string' ? bytesOf(bytes) : bytes, size = rows * columns;
  return {rows, columns, maps: Array.from({length: count}, (_, i) => all.subarray(i * size, (i + 1) * size))};
}

// The number of the strongest part at a place (shares of width and height); null if there is no part.
export function partAt({rows, columns, maps}, x, y) {
  const cell = Math.min(rows - 1, Math.floor(y * rows)) * columns + Math.min(columns - 1, Math.floor(x * columns));
  let best = -1;
  maps.forEach((map, i) => { if (map[cell] > 0 && (best < 0 || map[cell] > maps[best][cell])) best = i; });
  return best < 0 ? null : session.fit.parts[best];
}

// Numbers of parts, from the top of the picture to its bottom: first those with a name of their own, then those with the
// name of a side of the picture.
export function inOrder() {
  const {parts, names} = session.fit, heights = session.maps.maps.map(heightOf), at = (part) => parts.indexOf(part);
  return [...parts].sort((one, two) =>
    isSide(names[one]) - isSide(names[two]) || heights[at(one)] - heights[at(two)]);
}

// The mean row of a map.
function heightOf(map) {
  const {columns} = session.maps;
  let [sum, rows] = [0, 0];
  map.forEach((value, i) => {
    sum += value;
    rows += value * Math.floor(i / columns);
  });
  return sum ? rows / sum : 0; // a part may lie outside of the picture
}

// A map, enlarged smoothly to the given size, as values from 0 to 255.
function enlarged({rows, columns}, map, width, height) {
  const small = new OffscreenCanvas(columns + 2, rows + 2), pen = small.getContext('2d');
  const pixels = pen.createImageData(columns + 2, rows + 2);
  for (let r = 0; r < rows + 2; r++) {
    for (let c = 0; c < columns + 2; c++) { // the border is repeated, so that it is interpolated like the rest
      const row = Math.min(rows - 1, Math.max(0, r - 1)), column = Math.min(columns - 1, Math.max(0, c - 1));
      pixels.data[4 * (r * (columns + 2) + c) + 3] = map[row * columns + column];
    }
  }
  pen.putImageData(pixels, 0, 0);
  const brush = new OffscreenCanvas(width, height).getContext('2d', {willReadFrequently: true});
  brush.imageSmoothingQuality = 'high';
  brush.drawImage(small, 1, 1, columns, rows, 0, 0, width, height);
  const {data} = brush.getImageData(0, 0, width, height), found = new Uint8Array(width * height);
  for (let i = 0; i < found.length; i++) found[i] = data[4 * i + 3];
  return found;
}

// The outline: pixels above half of the map's maximum with a pixel below it within a distance of `line`.
function edges(values, width, height, line) {
  const found = [];
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      if (values[i] >= HALF && (
        (x >= line && values[i - line] < HALF) || (x + line < width && values[i + line] < HALF) ||
        (y >= line && values[i - line * width] < HALF) || (y + line < height && values[i + line * width] < HALF))) {
        found.push(i);
      }
    }
  }
  return found;
}

const filled = (pixels, i, [r, g, b], alpha) => {
  pixels[4 * i] = r;
  pixels[4 * i + 1] = g;
  pixels[4 * i + 2] = b;
  pixels[4 * i + 3] = alpha;
};

// A picture of a map: its inside in a colour, with opacity `fill`, and its outline, `line` pixels wide.
export function drawn(of, map, width, height, colour, fill, line) {
  const canvas = new OffscreenCanvas(width, height), pen = canvas.getContext('2d');
  const image = pen.createImageData(width, height), values = enlarged(of, map, width, height);
  if (fill) values.forEach((value, i) => { if (value >= NEAR) filled(image.data, i, colour, fill * value); });
  for (const i of edges(values, width, height, line + 1)) filled(image.data, i, colour, 255);
  for (const i of edges(values, width, height, 1)) filled(image.data, i, [20, 20, 20], 200);
  pen.putImageData(image, 0, 0);
  return canvas;
}

// A picture of the outlines of all parts, thin and white; if some have names of their own, only of these.
export function outlines(of, width, height) {
  const canvas = new OffscreenCanvas(width, height), pen = canvas.getContext('2d');
  const image = pen.createImageData(width, height);
  const {parts, names} = session.fit, named = parts.map((part) => !isSide(names[part]));
  for (const map of of.maps.filter((_, i) => named[i] || !named.includes(true))) {
    const values = enlarged(of, map, width, height);
    for (const i of edges(values, width, height, 1)) filled(image.data, i, [255, 255, 255], 190);
  }
  pen.putImageData(image, 0, 0);
  return canvas;
}

// Masks for the server: S numbers from 0 to 1, for the whole grid.
export function packedMask(mask) {
  const bytes = new Uint8Array(new Float32Array(mask).buffer);
  let text = '';
  for (let i = 0; i < bytes.length; i += 4096) text += String.fromCharCode(...bytes.subarray(i, i + 4096));
  return btoa(text);
}

export const unpackedMask = (text) => new Float32Array(bytesOf(text).buffer);

// The cells of a mask that lie in the picture, as the maps of one part.
export function mapsOfMask(mask) {
  const [H, W] = session.fit.grid, [top, left] = session.fit.margin;
  const rows = H - 2 * top, columns = W - 2 * left, most = Math.max(...mask) || 1;
  const map = Uint8Array.from({length: rows * columns}, (_, i) =>
    255 * Math.abs(mask[(top + Math.floor(i / columns)) * W + left + (i % columns)]) / most);
  return {rows, columns, maps: [map]};
}
