//! What a component exports of the contract, and where: found once for each plugin.
//!
//! `load` finds the hooks and has their types checked in the instance that it asks for the schema;
//! each later instance takes them by place, with neither a name looked up nor a type compared.
//! Never calls one.

use super::bindings::{BodyVerdict, ChunkVerdict, Direction, Verdict};
use super::block::{Given, Note};
use super::guest::Guest;
use super::hook::{Hook, Parameters};
use super::load::is_of;
use wasmtime::Store;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{
    Component, ComponentExportIndex, ComponentNamedList, Instance as Linked, Lift, ResourceAny,
};

/// What a hook's call gives: the outer error is the runtime's, the inner one the guest's own.
pub(super) type Answer<T> = (Result<T, String>,);

type OnRequest = Hook<(Given<'static>,), Answer<Verdict>>;
type OnResponse = Hook<(Given<'static>, Note<'static>), Answer<Verdict>>;
type OnLog = Hook<(&'static [Vec<Option<String>>],), Answer<()>>;
type OnBody = Hook<(&'static [u8], &'static [u8]), Answer<BodyVerdict>>;

/// The functions of one instance.
pub(super) struct Hooks {
    pub configure: Hook<(&'static str,), Answer<()>>,
    pub config_schema: Hook<(), (String,)>,
    pub on_request: Option<OnRequest>,
    pub on_response: Option<OnResponse>,
    pub on_request_body: Option<OnBody>,
    pub on_response_body: Option<OnBody>,
    pub on_log: Option<OnLog>,
    pub on_tick: Option<Hook<(), Answer<()>>>,
    pub filter: Option<FilterHooks>,
}

pub(super) struct FilterHooks {
    pub construct: Hook<(Direction, &'static [u8]), (ResourceAny,)>,
    pub chunk: Hook<(ResourceAny, &'static [u8], bool), Answer<ChunkVerdict>>,
}

/// Which hooks a component exports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exports {
    pub on_request: bool,
    pub on_response: bool,
    pub on_request_body: bool,
    pub on_response_body: bool,
    pub body_stream: bool,
    pub on_log: bool,
    pub on_tick: bool,
}

impl Exports {
    /// The hooks by their WIT names.
    pub fn names(&self) -> Vec<&'static str> {
        [
            ("on-request", self.on_request),
            ("on-request-body", self.on_request_body),
            ("on-response", self.on_response),
            ("on-response-body", self.on_response_body),
            ("body-stream", self.body_stream),
            ("on-log", self.on_log),
            ("on-tick", self.on_tick),
        ]
        .into_iter()
        .filter_map(|(name, exported)| exported.then_some(name))
        .collect()
    }
}

/// Where a component's hooks are.
pub(super) struct Places {
    configure: ComponentExportIndex,
    config_schema: ComponentExportIndex,
    on_request: Option<ComponentExportIndex>,
    on_response: Option<ComponentExportIndex>,
    on_request_body: Option<ComponentExportIndex>,
    on_response_body: Option<ComponentExportIndex>,
    on_log: Option<ComponentExportIndex>,
    on_tick: Option<ComponentExportIndex>,
    filter: Option<FilterPlaces>,
}

struct FilterPlaces {
    construct: ComponentExportIndex,
    chunk: ComponentExportIndex,
}

const CONFIGURE: &str = "configure: func(config: string) -> result<_, string>";
const CONFIG_SCHEMA: &str = "config-schema: func() -> string";

impl Places {
    /// # Errors
    /// What is missing, or is there but no function.
    pub(super) fn find(component: &Component) -> Result<Places, String> {
        let function = |name: &str| match component.get_export(None, name) {
            None => Ok(None),
            Some((ComponentItem::ComponentFunc(_), place)) => Ok(Some(place)),
            Some(_) => Err(format!("exports `{name}`, but not as a function")),
        };
        let (config_schema, configure) = match (function("config-schema")?, function("configure")?) {
            (Some(schema), Some(configure)) => (schema, configure),
            (schema, configure) => {
                let missing = [(schema, CONFIG_SCHEMA), (configure, CONFIGURE)];
                let missing: Vec<_> = missing
                    .iter()
                    .filter(|(place, _)| place.is_none())
                    .map(|(_, what)| format!("`{what}`"))
                    .collect();
                return Err(format!("does not export {}", missing.join(" and ")));
            }
        };
        Ok(Places {
            configure,
            config_schema,
            on_request: function("on-request")?,
            on_response: function("on-response")?,
            on_request_body: function("on-request-body")?,
            on_response_body: function("on-response-body")?,
            on_log: function("on-log")?,
            on_tick: function("on-tick")?,
            filter: filter(component)?,
        })
    }

    pub(super) fn exports(&self) -> Exports {
        Exports {
            on_request: self.on_request.is_some(),
            on_response: self.on_response.is_some(),
            on_request_body: self.on_request_body.is_some(),
            on_response_body: self.on_response_body.is_some(),
            body_stream: self.filter.is_some(),
            on_log: self.on_log.is_some(),
            on_tick: self.on_tick.is_some(),
        }
    }

    /// Takes the hooks of an instance, whose component is the one these places are of. `checked`:
    /// an instance of it passed the check before.
    ///
    /// # Errors
    /// The first export whose type is another than the contract's.
    pub(super) fn take(
        &self,
        linked: &Linked,
        store: &mut Store<Guest>,
        checked: bool,
    ) -> Result<Hooks, String> {
        let mut at = Taking { linked, store, checked };
        Ok(Hooks {
            configure: at.hook("configure", &self.configure)?,
            config_schema: at.hook("config-schema", &self.config_schema)?,
            on_request: at.optional("on-request", self.on_request.as_ref())?,
            on_response: at.optional("on-response", self.on_response.as_ref())?,
            on_request_body: at.optional("on-request-body", self.on_request_body.as_ref())?,
            on_response_body: at.optional("on-response-body", self.on_response_body.as_ref())?,
            on_log: at.optional("on-log", self.on_log.as_ref())?,
            on_tick: at.optional("on-tick", self.on_tick.as_ref())?,
            filter: self.filter.as_ref().map(|places| at.filter(places)).transpose()?,
        })
    }
}

/// The interface of the filters, in whichever version of our track the component has it.
fn filter(component: &Component) -> Result<Option<FilterPlaces>, String> {
    let ty = component.component_type();
    let Some((interface, _)) = ty.exports(component.engine()).find(|(name, item)| {
        is_of(name, "body-stream") && matches!(item.ty, ComponentItem::ComponentInstance(_))
    }) else {
        return Ok(None);
    };
    let missing = |name: &str| format!("exports `{interface}` without `{name}`");
    let instance = component.get_export_index(None, interface).ok_or_else(|| missing("body-filter"))?;
    let function =
        |name: &str| component.get_export_index(Some(&instance), name).ok_or_else(|| missing(name));
    Ok(Some(FilterPlaces {
        construct: function("[constructor]body-filter")?,
        chunk: function("[method]body-filter.chunk")?,
    }))
}

struct Taking<'a> {
    linked: &'a Linked,
    store: &'a mut Store<Guest>,
    checked: bool,
}

impl Taking<'_> {
    fn hook<P, R>(&mut self, name: &str, place: &ComponentExportIndex) -> Result<Hook<P, R>, String>
    where
        P: Parameters,
        R: ComponentNamedList + Lift + 'static,
    {
        let func = self
            .linked
            .get_func(&mut *self.store, place)
            .ok_or_else(|| format!("exports no function `{name}`"))?;
        if self.checked {
            #[expect(unsafe_code, reason = "the check is done once for each plugin, not for each instance")]
            // SAFETY: the places are of this instance's component, another instance of which
            // passed `Hook::check` for the same `P` and `R` in this same function.
            return Ok(unsafe { Hook::unchecked(func) });
        }
        Hook::check(func, &*self.store)
            .map_err(|error| format!("exports `{name}` with another type: {error:#}"))
    }

    fn optional<P, R>(
        &mut self,
        name: &str,
        place: Option<&ComponentExportIndex>,
    ) -> Result<Option<Hook<P, R>>, String>
    where
        P: Parameters,
        R: ComponentNamedList + Lift + 'static,
    {
        place.map(|place| self.hook(name, place)).transpose()
    }

    fn filter(&mut self, places: &FilterPlaces) -> Result<FilterHooks, String> {
        Ok(FilterHooks {
            construct: self.hook("body-stream", &places.construct)?,
            chunk: self.hook("body-stream", &places.chunk)?,
        })
    }
}
