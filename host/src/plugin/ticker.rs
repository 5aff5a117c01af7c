//! The clock that bounds guests' time: one thread that advances the engine's epoch.
//!
//! `engine` starts it; each instance holds a [`Ticking`] for as long as it lives. While there is no
//! instance the thread sleeps for good: a gateway without policies is not woken a thousand times a
//! second. Never looks at what runs: each call's deadline is its own store's.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;
use wasmtime::Engine;

/// One tick of the epoch, the grain of every time limit.
pub const TICK: Duration = Duration::from_millis(1);

/// Whose time is being measured. The thread ends when this is dropped.
#[derive(Debug)]
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Debug, Default)]
struct Shared {
    /// Instances alive; [`ENDED`] when nobody will ask for time again.
    instances: AtomicUsize,
}

const ENDED: usize = usize::MAX;

impl Ticker {
    /// # Errors
    /// The system has no thread for it.
    pub(super) fn start(engine: &Engine) -> std::io::Result<Arc<Ticker>> {
        let shared = Arc::<Shared>::default();
        let thread = spawn(shared.clone(), engine)?.thread().clone();
        Ok(Arc::new(Ticker { shared, thread }))
    }

    /// Time passes until the answer is dropped.
    pub(super) fn hold(self: &Arc<Ticker>) -> Ticking {
        if self.shared.instances.fetch_add(1, SeqCst) == 0 {
            self.thread.unpark();
        }
        Ticking(self.clone())
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.instances.store(ENDED, SeqCst);
        self.thread.unpark();
    }
}

/// Held by whatever has a deadline in ticks.
#[derive(Debug)]
pub(super) struct Ticking(Arc<Ticker>);

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.shared.instances.fetch_sub(1, SeqCst);
    }
}

fn spawn(shared: Arc<Shared>, engine: &Engine) -> std::io::Result<JoinHandle<()>> {
    let ticked = engine.weak();
    std::thread::Builder::new().name("epoch".into()).spawn(move || {
        loop {
            match shared.instances.load(SeqCst) {
                ENDED => return,
                0 => std::thread::park(),
                _ => {
                    std::thread::sleep(TICK);
                    let Some(engine) = ticked.upgrade() else { return };
                    engine.increment_epoch();
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmtime::{Config, Instance, Module, Store, Trap};

    /// Runs an endless loop with a deadline of `ticks`.
    fn spin(engine: &Engine, ticks: u64) -> Trap {
        let loops = wat::parse_str(r#"(module (func (export "spin") (loop (br 0))))"#).unwrap();
        let module = Module::new(engine, loops).unwrap();
        let mut store = Store::new(engine, ());
        store.epoch_deadline_trap();
        store.set_epoch_deadline(ticks);
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let spin = instance.get_typed_func::<(), ()>(&mut store, "spin").unwrap();
        spin.call(&mut store, ()).unwrap_err().downcast::<Trap>().unwrap()
    }

    #[test]
    fn time_passes_while_it_is_held_again_after_a_rest() {
        let engine = Engine::new(Config::new().epoch_interruption(true)).unwrap();
        let ticker = Ticker::start(&engine).unwrap();
        for _ in 0..3 {
            let first = ticker.hold();
            let second = ticker.hold();
            drop(first);
            // A loop that nobody ended would hang this test.
            assert_eq!(spin(&engine, 2), Trap::Interrupt);
            drop(second);
        }
    }

    #[test]
    fn the_thread_ends_with_the_ticker() {
        let engine = Engine::new(Config::new().epoch_interruption(true)).unwrap();
        for held in [false, true] {
            let shared = Arc::<Shared>::default();
            let thread = spawn(shared.clone(), &engine).unwrap();
            let ticker = Arc::new(Ticker { shared, thread: thread.thread().clone() });
            if held {
                drop(ticker.hold());
            }
            drop(ticker);
            thread.join().unwrap();
        }
    }
}
