// Requests to the server: one for each action. The answer is lines of JSON, and the last line has the result.

import {say, working} from './status.js';

const AGAIN = 1000; // milliseconds until the next try when the server does not answer

// An error of the server, with a sentence for the user.
export class Refusal extends Error {}

const pause = (time) => new Promise((resolve) => setTimeout(resolve, time));

async function answered(action, values) {
  for (let lost = false; ; lost = true) {
    try {
      const headers = {'Content-Type': 'application/json'};
      const answer = await fetch(`do/${action}`, {method: 'POST', headers, body: JSON.stringify(values)});
      if (answer.ok) {
        if (lost) say('The server answers again.');
        return answer;
      }
      if (answer.status !== 503) throw new Refusal(await answer.text());
    } catch (error) {
      if (error instanceof Refusal) throw error;
      say('The server does not answer. It is asked again and again, and nothing here is lost.', 'error');
    }
    await pause(AGAIN);
  }
}

// The result of an action; `words` are shown if it is slow, and `told` is called with its progress.
export async function ask(action, values, words = '', told = () => {}) {
  const done = working(words);
  try {
    const reader = (await answered(action, values)).body.pipeThrough(new TextDecoderStream()).getReader();
    let text = '', last = null;
    for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
      const lines = (text + chunk.value).split('\n');
      text = lines.pop();
      for (const line of lines) {
        last = JSON.parse(line);
        if (last.busy !== undefined) told(last.busy);
      }
    }
    if (last?.error !== undefined) throw new Refusal(last.error);
    if (last?.done === undefined) throw new Refusal('The server broke off; see what it printed.');
    return last.done;
  } finally {
    done();
  }
}

// A file for the server: its content in base 64, or null if it has more than `most` bytes.
export async function packed(file, most, count = 1) {
  const values = {name: file.name, count, content: null};
  if (count > 1 || file.size > most) return values;
  const url = await new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => resolve(',');
    reader.readAsDataURL(file);
  });
  return {...values, content: url.slice(url.indexOf(',') + 1)};
}
