"""What the explorer's page does by itself, in the browser: it tells of clicks, strokes, boxes and files.

The first argument of a trigger is the event; places are fractions of a picture's width and height.
"""

_PLACE = """
const place = (event, box) => {
  const r = box.getBoundingClientRect(), within = (v) => Math.min(1, Math.max(0, v));
  return [within((event.clientX - r.left) / r.width), within((event.clientY - r.top) / r.height)];
};
"""

POINTER = (
  _PLACE
  + """
const box = (event) => event.target.closest('.panda-picture');
const painting = (found) => found.closest('figure').dataset.mode === 'paint';
let stroke = null;
element.addEventListener('click', (event) => {
  const found = box(event);
  if (!found || painting(found)) return;
  const [x, y] = place(event, found);
  trigger('picked', {x, y});
});
element.addEventListener('pointerdown', (event) => {
  const found = box(event);
  if (!found || event.button || !painting(found)) return;
  event.preventDefault();
  found.setPointerCapture(event.pointerId);
  const canvas = document.createElement('canvas');
  canvas.width = found.clientWidth; canvas.height = found.clientHeight;
  found.append(canvas);
  const pen = canvas.getContext('2d');
  pen.strokeStyle = 'rgba(255, 120, 0, 0.7)'; pen.lineWidth = canvas.width / 20; pen.lineCap = pen.lineJoin = 'round';
  stroke = {found, pen, canvas, points: [place(event, found)]};
});
element.addEventListener('pointermove', (event) => {
  if (!stroke || stroke.points.length >= 4000) return;
  const last = stroke.points.at(-1), next = place(event, stroke.found);
  stroke.points.push(next);
  stroke.pen.beginPath();
  stroke.pen.moveTo(last[0] * stroke.canvas.width, last[1] * stroke.canvas.height);
  stroke.pen.lineTo(next[0] * stroke.canvas.width, next[1] * stroke.canvas.height);
  stroke.pen.stroke();
});
const ended = () => { if (stroke) { trigger('painted', {points: stroke.points}); stroke = null; } };
element.addEventListener('pointerup', ended);
element.addEventListener('pointercancel', ended);
"""
)

# Clicks mark; a box of the generator's shape is dragged.
MARKER = (
  _PLACE
  + """
let drag = null;
element.addEventListener('pointerdown', (event) => {
  const found = event.target.closest('.panda.ma .panda-picture');
  if (!found || event.button) return;
  event.preventDefault();
  found.setPointerCapture(event.pointerId);
  const canvas = document.createElement('canvas');
  canvas.width = found.clientWidth; canvas.height = found.clientHeight;
  found.append(canvas);
  drag = {found, canvas, from: [event.clientX, event.clientY], start: place(event, found)};
});
const far = (event) => Math.hypot(event.clientX - drag.from[0], event.clientY - drag.from[1]) > 6;
element.addEventListener('pointermove', (event) => {
  if (!drag || !far(event)) return;
  const {canvas, found, start} = drag, pen = canvas.getContext('2d'), end = place(event, found);
  const aspect = Number(found.closest('figure').dataset.aspect);
  const [x, y] = [start[0] * canvas.width, start[1] * canvas.height];
  const [dx, dy] = [end[0] * canvas.width - x, end[1] * canvas.height - y];
  const width = Math.min(Math.abs(dx), Math.abs(dy) * aspect);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.strokeStyle = 'rgba(255, 120, 0, 0.9)'; pen.lineWidth = 3;
  pen.strokeRect(x, y, Math.sign(dx) * width, Math.sign(dy) * width / aspect);
});
element.addEventListener('pointerup', (event) => {
  if (!drag) return;
  const end = place(event, drag.found);
  if (far(event)) trigger('boxed', {points: [drag.start, end]}); else trigger('marked', {x: end[0], y: end[1]});
  drag.canvas.remove();
  drag = null;
});
element.addEventListener('pointercancel', () => { if (drag) { drag.canvas.remove(); drag = null; } });
"""
)

# Files are read by the browser and sent like a click: Gradio's own uploads would leave them in a folder, and take the
# path of any other file for one.
CHOOSER = '<label class="panda-file">Mask from a PNG: <input type="file" accept="image/png"></label>'
READER = """
const read = (file, count) => {
  const reader = new FileReader(), told = (content) => trigger('uploaded', {name: file.name, content, count});
  reader.onload = () => told(reader.result.slice(reader.result.indexOf(',') + 1));
  reader.onerror = () => told('');
  if (count > 1 || file.size > LARGEST) told(null); else reader.readAsDataURL(file);
};
element.addEventListener('change', (event) => {
  const input = event.target;
  if (input.files.length) read(input.files[0], input.files.length);
  input.value = '';
});
"""
PHOTOGRAPH = (
  '<label class="panda-file panda-drop">Your photograph: <input type="file" accept="image/*"> '
  'or drop one anywhere on this page</label>'
)
DROPPED = """
const files = (event) => [...(event.dataTransfer?.types ?? [])].includes('Files');
const over = (on) => element.querySelector('.panda-drop').classList.toggle('over', on);
document.addEventListener('dragover', (event) => { if (files(event)) { event.preventDefault(); over(true); } });
document.addEventListener('dragleave', (event) => { if (!event.relatedTarget) over(false); });
document.addEventListener('drop', (event) => {
  if (!files(event)) return;
  event.preventDefault();
  over(false);
  const given = event.dataTransfer.files;
  if (given.length) read(given[0], given.length);
});
"""
SHOW = "() => document.querySelector('#panda-photograph')?.scrollIntoView({behavior: 'smooth'})"
# Of a link that is there to be fetched at once.
FETCH = "() => document.querySelector('#panda-status a[download]')?.click()"


def reader(most: int) -> str:
  """`READER` for files of at most so many bytes."""
  return READER.replace('LARGEST', str(most))
