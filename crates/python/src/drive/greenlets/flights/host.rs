//! What the calls of the application ask of a driver with greenlets.

use std::time::{Duration, Instant};

use pyo3::intern;
use pyo3::prelude::*;
use serve_net::{ExchangeId, Sent};

use super::{Fate, Flights, State};
use crate::drive::Host;
use crate::drive::running::LONGEST;
use crate::timeout;

impl Host for Flights {
    fn room(&self, py: Python<'_>, id: ExchangeId) -> PyResult<Sent> {
        let current = self.gevent.current.bind(py).call0()?;
        let hub = self.gevent.hub.bind(py);
        if current.is(hub) {
            // A callback of the loop's own cannot wait.
            return Ok(Sent::Taken);
        }
        let _paused = Paused::new(py, self, id, current.unbind());
        loop {
            hub.call_method0(intern!(py, "switch"))?;
            match self.reactor.lock().room(id) {
                Sent::Full => {}
                sent => return Ok(sent),
            }
        }
    }

    fn is_overdue(&self, id: ExchangeId) -> bool {
        matches!(self.fate(id), Some(Fate::Late | Fate::Told))
    }

    fn has_ended(&self, py: Python<'_>, id: ExchangeId, error: &PyErr) -> bool {
        match self.fate(id) {
            Some(Fate::Gone) => error.is_instance(py, self.gevent.exit.bind(py)),
            Some(Fate::Late | Fate::Told) => {
                timeout::exception(py).is_ok_and(|timeout| error.is_instance(py, &timeout))
            }
            Some(Fate::Runs) | None => false,
        }
    }

    /// It lasts for as long as both sides want it to.
    fn detached(&self, id: ExchangeId, request: Option<String>) {
        let mut state = self.state();
        let State { flights, deadlines, .. } = &mut *state;
        if let Some((number, flight)) = flights.iter_mut().find(|(_, it)| it.exchange == id) {
            flight.request = request;
            flight.extended = false;
            if let Some(at) = flight.deadline.take() {
                deadlines.remove(&(at, *number));
            }
        }
    }

    /// For the request whose greenlet calls.
    fn extend(&self, more: Duration) {
        let more = more.min(LONGEST);
        let found = Python::attach(|py| {
            let current = self.gevent.current.call0(py).ok()?;
            let state = self.state();
            let mut flights = state.flights.iter();
            flights.find(|(_, flight)| flight.greenlet.is(&current)).map(|(number, _)| *number)
        });
        let Some(number) = found else {
            log::warn!("serve.extend_timeout has no effect outside of the request's own greenlet");
            return;
        };
        let mut state = self.state();
        let State { flights, deadlines, .. } = &mut *state;
        let Some(flight) = flights.get_mut(&number).filter(|it| it.fate == Fate::Runs) else {
            return;
        };
        let at = Instant::now() + more;
        if let Some(before) = flight.deadline.replace(at) {
            deadlines.remove(&(before, number));
        }
        flight.extended = true;
        deadlines.insert((at, number));
        drop(state);
        self.board.extend(more.saturating_sub(self.timeout));
        // The timer may be set for later than that.
        self.reactor.wake();
    }
}

impl Flights {
    fn fate(&self, id: ExchangeId) -> Option<Fate> {
        self.state().flights.values().find(|flight| flight.exchange == id).map(|it| it.fate)
    }
}

/// While this lives, a greenlet of a request waits for the client to read. That is what
/// the write timeout is for: the request's own time stands still.
struct Paused<'a> {
    flights: &'a Flights,
    exchange: ExchangeId,
    greenlet: Py<PyAny>,
}

impl<'a> Paused<'a> {
    fn new(
        py: Python<'_>,
        flights: &'a Flights,
        exchange: ExchangeId,
        greenlet: Py<PyAny>,
    ) -> Self {
        let mut state = flights.state();
        let State { flights: all, deadlines, waiting, .. } = &mut *state;
        if let Some((number, flight)) = all.iter_mut().find(|(_, it)| it.exchange == exchange) {
            if let Some(at) = flight.deadline {
                deadlines.remove(&(at, *number));
            }
            flight.paused.get_or_insert((Instant::now(), 0)).1 += 1;
        }
        waiting.push((exchange, greenlet.clone_ref(py)));
        drop(state);
        Self { flights, exchange, greenlet }
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        let mut state = self.flights.state();
        let State { flights: all, deadlines, waiting, .. } = &mut *state;
        let here = waiting.iter().position(|(_, greenlet)| greenlet.is(&self.greenlet));
        let ended = here.map(|index| waiting.swap_remove(index));
        if let Some((number, flight)) = all.iter_mut().find(|(_, it)| it.exchange == self.exchange)
            && let Some((since, count)) = flight.paused
        {
            flight.paused = (count > 1).then_some((since, count - 1));
            if let Some(at) = flight.deadline.as_mut().filter(|_| count == 1) {
                // Another greenlet of it may have chosen the deadline meanwhile.
                deadlines.remove(&(*at, *number));
                *at += since.elapsed();
                if flight.fate == Fate::Runs {
                    deadlines.insert((*at, *number));
                }
            }
        }
        drop(state);
        // Not under the lock: it may run Python.
        drop(ended);
    }
}
