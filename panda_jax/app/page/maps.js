// Where parts are: maps on the cells of the picture, and how they are drawn on it.

import {session} from './session.js';

export const bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const NEAR = 96; // of 255: how much of a part there must be under the pointer

// Maps as they come: {shape: [parts, rows, columns], bytes}.
export function unpacked({shape: [count, rows, columns], bytes}) {
  const all = typeof bytes === 'string' ? bytesOf(bytes) : bytes, size = rows * columns;
  return {rows, columns, maps: Array.from({length: count}, (_, i) => all.subarray(i * size, (i + 1) * size))};
}

// The part that is strongest at a place (shares of width and height), by its number; null if none is there.
export function partAt({rows, columns, maps}, x, y) {
  const cell = Math.min(rows - 1, Math.floor(y * rows)) * columns + Math.min(columns - 1, Math.floor(x * columns));
  let best = -1;
  maps.forEach((map, i) => { if (map[cell] > 0 && (best < 0 || map[cell] > maps[best][cell])) best = i; });
  return best < 0 ? null : session.fit.parts[best];
}

const small = document.createElement('canvas');

// A map, enlarged smoothly to a canvas of the size given, as values from 0 to 255.
export function enlarged({rows, columns}, map, width, height) {
  small.width = columns + 2;
  small.height = rows + 2;
  const pen = small.getContext('2d'), pixels = pen.createImageData(columns + 2, rows + 2);
  for (let r = 0; r < rows + 2; r++) {
    for (let c = 0; c < columns + 2; c++) { // the border is repeated, so that it is interpolated like the rest
      const row = Math.min(rows - 1, Math.max(0, r - 1)), column = Math.min(columns - 1, Math.max(0, c - 1));
      pixels.data[4 * (r * (columns + 2) + c) + 3] = map[row * columns + column];
    }
  }
  pen.putImageData(pixels, 0, 0);
  const large = new OffscreenCanvas(width, height), brush = large.getContext('2d', {willReadFrequently: true});
  brush.imageSmoothingQuality = 'high';
  brush.drawImage(small, 1, 1, columns, rows, 0, 0, width, height);
  const {data} = brush.getImageData(0, 0, width, height);
  return Uint8Array.from({length: width * height}, (_, i) => data[4 * i + 3]);
}

// Lays a map over a picture: its inside in a colour (opacity `fill`), and the line where it is half of its maximum.
export function lay(pixels, values, width, height, [r, g, b], fill, line) {
  const inside = (x, y) => values[y * width + x] >= 128;
  const put = (i, red, green, blue, alpha) => {
    pixels[4 * i] = red; pixels[4 * i + 1] = green; pixels[4 * i + 2] = blue; pixels[4 * i + 3] = alpha;
  };
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const i = y * width + x;
      const near = (d) => inside(x, y) && (
        (x >= d && !inside(x - d, y)) || (x < width - d && !inside(x + d, y)) ||
        (y >= d && !inside(x, y - d)) || (y < height - d && !inside(x, y + d)));
      if (line > 1 && near(1)) put(i, 20, 20, 20, 200);
      else if (near(line + (line > 1))) put(i, r, g, b, line > 1 ? 255 : 190);
      else if (fill && values[i] >= NEAR) put(i, r, g, b, fill * values[i]);
    }
  }
}

// Masks, S numbers from 0 to 1 of the whole grid, as the server takes them.
export function packedMask(mask) {
  const bytes = new Uint8Array(new Float32Array(mask).buffer);
  let text = '';
  for (let i = 0; i < bytes.length; i += 4096) text += String.fromCharCode(...bytes.subarray(i, i + 4096));
  return btoa(text);
}

export const unpackedMask = (text) => new Float32Array(bytesOf(text).buffer);

// The cells of a mask that lie in the picture, as a map.
export function mapOfMask(text) {
  const [H, W] = session.fit.grid, [top, left] = session.fit.margin, mask = unpackedMask(text);
  const rows = H - 2 * top, columns = W - 2 * left, most = Math.max(...mask) || 1;
  const map = Uint8Array.from({length: rows * columns}, (_, i) =>
    255 * Math.abs(mask[(top + Math.floor(i / columns)) * W + left + (i % columns)]) / most);
  return {rows, columns, maps: [map]};
}
