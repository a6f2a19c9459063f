// Pictures of choices from the server. The last ones are kept, so that the page shows them again at once.

import {ask} from './server.js';
import {session} from './session.js';

const MOST = 80; // pictures that are kept
const known = new Map();

// For each of the `views` of a choice a list of pictures' addresses; thumbnails if `small`.
export async function pictures(choice, views, small = false) {
  const values = {fit: session.fit.fit, choice, views, small}, key = JSON.stringify(values);
  if (!known.has(key)) {
    known.set(key, await ask('pictures', values));
    if (known.size > MOST) known.delete(known.keys().next().value);
  }
  return known.get(key);
}
