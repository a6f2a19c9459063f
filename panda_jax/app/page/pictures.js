// Pictures of choices as the server makes them; the last ones are kept, so that what was seen is there again at once.

import {ask} from './server.js';
import {session} from './session.js';

const MOST = 80; // that are kept
const known = new Map();

// The `views` of a choice, a list of pictures' addresses for each; thumbnails if `small`.
export async function pictures(choice, views, small = false) {
  const values = {fit: session.fit.fit, choice, views, small}, key = JSON.stringify(values);
  if (!known.has(key)) {
    known.set(key, await ask('pictures', values));
    if (known.size > MOST) known.delete(known.keys().next().value);
  }
  return known.get(key);
}
