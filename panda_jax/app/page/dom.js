// Elements of the page: finds or makes them.

export const find = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export const button = (properties, ...children) => make('button', {type: 'button', ...properties}, ...children);

// A command as nodes, so that its lines break only between words.
export const commandWords = (command) =>
  command.split(' ').flatMap((word, i) => [i ? ' ' : '', make('i', {textContent: word})]);

const SVG = 'http://www.w3.org/2000/svg';

// One of the page's symbols.
export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg'), use = document.createElementNS(SVG, 'use');
  use.setAttribute('href', `#icon-${name}`);
  svg.append(use);
  return svg;
}
