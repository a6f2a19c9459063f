"""Connections of the explorer's server: a limit to their number, and to the time that the server waits for a client.

uvicorn has neither limit. A client that sends one byte a minute, or never reads the answer, would hold memory and a
connection for ever.
"""

import resource

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST = 500  # connections; each open page has about three
WAITING_SECONDS = 15  # for the head of a request, or for the rest of a body after the answer
STALLED_SECONDS = 60  # while the client reads nothing of an answer


def most_connections() -> int:
  """`MOST`, or half of the files that this process may open."""
  return min(MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)


class Connection(H11Protocol):
  """One connection. Of too many, the one that has waited longest for a request is closed, or this one."""

  _deadline = _stalled = None  # timers

  def connection_made(self, transport):
    super().connection_made(transport)
    self._watch()
    if len(self.connections) > most_connections():
      waiting = [other for other in self.connections if other._deadline]
      min(waiting, key=lambda other: other._deadline.when()).transport.abort()

  def data_received(self, data):
    super().data_received(data)
    self._watch()

  def on_response_complete(self):
    super().on_response_complete()
    self._watch()

  def connection_lost(self, exc):
    super().connection_lost(exc)
    for timer in (self._deadline, self._stalled):
      if timer:
        timer.cancel()

  def _watch(self):
    """Sets a deadline while the server waits only for the client."""
    ours, theirs = self.conn.our_state, self.conn.their_state
    waiting = theirs is h11.IDLE or (theirs is h11.SEND_BODY and ours is h11.DONE)
    if waiting and not self._deadline:
      self._deadline = self.loop.call_later(WAITING_SECONDS, self.transport.abort)
    elif not waiting and self._deadline:
      self._deadline.cancel()
      self._deadline = None

  def pause_writing(self):
    super().pause_writing()
    self._stalled = self.loop.call_later(STALLED_SECONDS, self.transport.abort)

  def resume_writing(self):
    super().resume_writing()
    if self._stalled:
      self._stalled.cancel()
      self._stalled = None

  def send_400_response(self, msg):
    if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
      super().send_400_response(msg)
    else:  # an answer has already begun
      self.transport.close()
    if self.cycle:  # the client no longer gets its answer
      self.cycle.disconnected = True
      self.cycle.message_event.set()
