//! Where the host's calls arrive: the exported functions, and the one policy of an instance.
//!
//! Used by [`policy!`](crate::policy!) and by `testing`; no policy names anything here.

use std::cell::OnceCell;
use std::rc::Rc;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;

use crate::block::{Answer, Lent};
use crate::message::Given;
use crate::{
    Body, BodyFilter, BodyVerdict, Direction, Entry, Plan, Policy, Request, Response, Values, Verdict,
};

/// Exports a policy with the hooks that are named, or with `on_request` and `on_response`:
///
/// ```ignore
/// witgate::policy!(Guard);
/// witgate::policy!(Guard: on_request, on_request_body);
/// ```
///
/// Hooks: `on_request`, `on_response`, `on_request_body`, `on_response_body`, `on_log`, `on_tick`,
/// `body_stream`. Once in a crate.
#[macro_export]
macro_rules! policy {
    ($policy:ty) => { $crate::policy!($policy: on_request, on_response); };
    ($policy:ty: $($hook:ident),+ $(,)?) => {
        const _: () = {
            ::std::thread_local! {
                static SLOT: $crate::export::Slot<$policy> = const { $crate::export::Slot::new() };
            }

            #[allow(dead_code, reason = "only what the host calls is exported")]
            struct Guest;

            impl $crate::bindings::base::Guest for Guest {
                fn config_schema() -> ::std::string::String {
                    $crate::export::schema::<<$policy as $crate::Policy>::Config>()
                }
                fn configure(
                    config: ::std::string::String,
                ) -> ::std::result::Result<(), ::std::string::String> {
                    SLOT.with(|slot| slot.configure(&config))
                }
            }
            #[cfg(target_family = "wasm")]
            $crate::bindings::base::export!(Guest with_types_in $crate::bindings::base);
            #[cfg(target_family = "wasm")]
            $crate::__export_realloc!();

            $($crate::__hook!($hook);)+
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __hook {
    (on_request) => {
        #[cfg(target_family = "wasm")]
        impl Guest {
            fn answer_request(values: $crate::block::Lent) -> *const usize {
                SLOT.with(|slot| slot.answer.keep(slot.on_request(values)))
            }
        }
        #[cfg(target_family = "wasm")]
        $crate::bindings::on_request::export!(Guest with_types_in $crate::block::on_request);
    };
    (on_response) => {
        #[cfg(target_family = "wasm")]
        impl Guest {
            fn answer_response(
                values: $crate::block::Lent,
                note: ::std::vec::Vec<u8>,
            ) -> *const usize {
                SLOT.with(|slot| slot.answer.keep(slot.on_response(values, note)))
            }
        }
        #[cfg(target_family = "wasm")]
        $crate::bindings::on_response::export!(Guest with_types_in $crate::block::on_response);
    };
    (on_request_body) => {
        $crate::__hook!(
            @on_request_body(bytes: ::std::vec::Vec<u8>, note: ::std::vec::Vec<u8>) -> $crate::BodyVerdict
        );
    };
    (on_response_body) => {
        $crate::__hook!(
            @on_response_body(bytes: ::std::vec::Vec<u8>, note: ::std::vec::Vec<u8>) -> $crate::BodyVerdict
        );
    };
    (on_log) => {
        $crate::__hook!(@on_log(entries: ::std::vec::Vec<$crate::Values>) -> ());
    };
    (on_tick) => {
        $crate::__hook!(@on_tick() -> ());
    };
    (body_stream) => {
        impl $crate::bindings::body_stream::exports::witgate::policy::body_stream::Guest for Guest {
            type BodyFilter = $crate::export::Filter<Guest>;
        }
        impl $crate::export::Filters for Guest {
            fn filter(
                which: $crate::Direction,
                note: ::std::vec::Vec<u8>,
            ) -> ::std::boxed::Box<dyn $crate::BodyFilter> {
                SLOT.with(|slot| slot.body_filter(which, note))
            }
        }
        #[cfg(target_family = "wasm")]
        $crate::bindings::body_stream::export!(Guest with_types_in $crate::bindings::body_stream);
    };
    (@$hook:ident($($argument:ident: $type:ty),*) -> $verdict:ty) => {
        impl $crate::bindings::$hook::Guest for Guest {
            fn $hook($($argument: $type),*) -> ::std::result::Result<$verdict, ::std::string::String> {
                SLOT.with(|slot| slot.$hook($($argument),*))
            }
        }
        #[cfg(target_family = "wasm")]
        $crate::bindings::$hook::export!(Guest with_types_in $crate::bindings::$hook);
    };
    ($other:ident) => {
        ::std::compile_error!(::std::concat!(
            "no hook is named `", ::std::stringify!($other), "`: on_request, on_response, on_request_body, ",
            "on_response_body, on_log, on_tick, body_stream"
        ));
    };
}

/// JSON Schema (2020-12) of a configuration.
pub fn schema<C: JsonSchema>() -> String {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<C>();
    schema.as_value().to_string()
}

/// The policy of this instance, from `configure` on.
pub struct Slot<P> {
    loaded: OnceCell<Loaded<P>>,
    /// What the last header hook answered.
    pub answer: Answer,
}

struct Loaded<P> {
    policy: P,
    request: Rc<[String]>,
    response: Rc<[String]>,
    log: Rc<[String]>,
}

impl<P: Policy> Slot<P> {
    #[expect(clippy::new_without_default, reason = "made in constants only")]
    pub const fn new() -> Self {
        Slot { loaded: OnceCell::new(), answer: Answer::new() }
    }

    pub fn configure(&self, text: &str) -> Result<(), String> {
        log_panics();
        let config = parse(text)?;
        let mut plan = Plan::default();
        let policy = P::configure(config, &mut plan)?;
        plan.announce();
        let Plan { request, response, log, .. } = plan;
        let loaded = Loaded {
            policy,
            request: request.names.into(),
            response: response.names.into(),
            log: log.names.into(),
        };
        self.loaded.set(loaded).map_err(|_| "configured twice".into())
    }

    pub fn on_request(&self, values: impl Into<Given>) -> Result<Verdict, String> {
        let loaded = self.loaded()?;
        let request = Request::new(loaded.request.clone(), values.into());
        request.fits()?;
        loaded.policy.on_request(&request)
    }

    pub fn on_response(&self, values: impl Into<Given>, note: Vec<u8>) -> Result<Verdict, String> {
        let loaded = self.loaded()?;
        let response = Response::new(loaded.response.clone(), values.into(), note);
        response.fits()?;
        loaded.policy.on_response(&response)
    }

    pub fn on_request_body(&self, bytes: Vec<u8>, note: Vec<u8>) -> Result<BodyVerdict, String> {
        self.loaded()?.policy.on_request_body(Body { bytes, note })
    }

    pub fn on_response_body(&self, bytes: Vec<u8>, note: Vec<u8>) -> Result<BodyVerdict, String> {
        self.loaded()?.policy.on_response_body(Body { bytes, note })
    }

    pub fn on_log(&self, entries: Vec<Values>) -> Result<(), String> {
        let loaded = self.loaded()?;
        let entries: Vec<Entry> =
            entries.into_iter().map(|values| Entry::new(loaded.log.clone(), values)).collect();
        entries.iter().try_for_each(Entry::fits)?;
        loaded.policy.on_log(&entries)
    }

    pub fn on_tick(&self) -> Result<(), String> {
        self.loaded()?.policy.on_tick()
    }

    pub fn body_filter(&self, which: Direction, note: Vec<u8>) -> Box<dyn BodyFilter> {
        match self.loaded() {
            Ok(loaded) => loaded.policy.body_filter(which, note),
            // The host configures first; a filter that let everything pass would be no guard.
            Err(error) => panic!("{error}"),
        }
    }

    fn loaded(&self) -> Result<&Loaded<P>, String> {
        self.loaded.get().ok_or_else(|| "not configured".into())
    }
}

impl From<Lent> for Given {
    fn from(values: Lent) -> Given {
        Given::Lent(values)
    }
}

/// Reads a configuration; none at all is an empty one.
fn parse<C: serde::de::DeserializeOwned>(text: &str) -> Result<C, String> {
    let text = match text.trim() {
        "" | "null" => "{}",
        text => text,
    };
    serde_json::from_str(text).map_err(|error| {
        // The host wrote this JSON: a position in it means nothing to whoever wrote the YAML.
        let text = error.to_string();
        match text.rfind(" at line ") {
            Some(end) => text[..end].into(),
            None => text,
        }
    })
}

/// A trap carries no text: what a panic has to say goes to the log before it.
#[cfg(target_family = "wasm")]
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        crate::log::write(crate::log::Level::Error, &panic.to_string());
    }));
}

#[cfg(not(target_family = "wasm"))]
fn log_panics() {}

/// Makes filters: the policy behind a [`Filter`].
pub trait Filters: 'static {
    fn filter(which: Direction, note: Vec<u8>) -> Box<dyn BodyFilter>;
}

/// The exported resource.
pub struct Filter<G> {
    filter: std::cell::RefCell<Box<dyn BodyFilter>>,
    guest: std::marker::PhantomData<fn() -> G>,
}

impl<G: Filters> crate::bindings::body_stream::exports::witgate::policy::body_stream::GuestBodyFilter
    for Filter<G>
{
    fn new(which: Direction, note: Vec<u8>) -> Self {
        let filter = std::cell::RefCell::new(G::filter(which, note));
        Filter { filter, guest: std::marker::PhantomData }
    }

    fn chunk(&self, data: Vec<u8>, last: bool) -> Result<crate::ChunkVerdict, String> {
        self.filter.borrow_mut().chunk(&data, last)
    }
}
