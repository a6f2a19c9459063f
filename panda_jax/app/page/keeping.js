// Saving: the picture comes to this computer, and the edit with its command stays in the folder of the fit.

import {button, find, make} from './dom.js';
import {ask, Refusal} from './server.js';
import {choiceOf, follow, session} from './session.js';
import {say} from './status.js';

const link = (address, name, words) => make('a', {href: address, download: name, textContent: words});
const download = (address, name) => link(address, name, name).click();

async function tried(work) {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    say(error.message, 'error');
  }
}

let kept = ''; // what was saved last

// What is saved of a choice; edits are added up in any order.
function savedOf(now) {
  const choice = choiceOf(now);
  return JSON.stringify([session.fit.fit, {...choice, terms: choice.terms.map((term) => JSON.stringify(term)).sort()}]);
}

export const save = () => tried(async () => {
  if (find('save').disabled) return say('There is nothing to save yet. Take an edit first.');
  const now = session.now, words = now.edits.filter((edit) => edit.on).map((edit) => edit.name);
  const values = {fit: session.fit.fit, choice: choiceOf(now), name: find('name').value, words};
  const done = await ask('saved', values, 'Saving …');
  const whole = done.files.find((file) => file.name === 'photograph.png');
  const picture = whole ?? done.files.find((file) => file.name === 'edited.png');
  download(picture.address, `${done.name}.png`);
  const said = `Saved as ${done.folder}. The picture is in your downloads. The command that makes it again:`;
  const links = done.files.flatMap((file) => [', ', link(file.address, `${done.name}-${file.name}`, file.name)]);
  const code = make('code', {textContent: done.command}), box = find('saved');
  box.replaceChildren(
    make('p', {textContent: said}),
    make('pre', {}, code),
    make('p', {}, 'Files: ', ...links.slice(1), '.'),
    button({textContent: 'Copy command', onclick: () => copied(done.command, code)}),
  );
  kept = savedOf(now);
  follows(session.now);
  box.scrollIntoView({block: 'nearest'});
  say(`Saved as ${done.name}.`);
});

async function copied(text, code) {
  try {
    await navigator.clipboard.writeText(text);
    say('Copied.');
  } catch { // not over plain HTTP: then it is there to be copied by hand
    getSelection().selectAllChildren(code);
    say('Press Ctrl+C to copy it.');
  }
}

find('save').addEventListener('click', save);
find('name').addEventListener('keydown', (event) => { if (event.key === 'Enter' && !find('save').disabled) save(); });
find('whole').addEventListener('click', () => tried(async () => {
  const values = {fit: session.fit.fit, choice: choiceOf(session.now)};
  const done = await ask('whole', values, 'Writing the whole photograph …');
  download(done.address, done.name);
  say(`${done.name} is in your downloads.`);
}));
// What is said of the last save is there as long as what is shown is what was saved.
function follows(now) {
  find('saved').hidden = !kept || savedOf(now) !== kept;
  find('save').disabled = !now.edits.some((edit) => edit.on);
  find('whole').hidden = !now.photograph?.shown;
}

follow(follows);
