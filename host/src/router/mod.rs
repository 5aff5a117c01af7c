//! Which route answers a request: by listener, host, path and method.
//!
//! `compile` builds a `Router` per snapshot, `exchange` asks it once per request. It knows routes
//! by number only and never looks at header fields, bodies or configuration.
//!
//! First the API is chosen: of those that fit, the one with the most specific host (exact, then
//! the longest `*.` suffix, then any), and of these the longest path prefix. Then, inside it, the
//! operation: of those whose path and method fit, the one with the most specific path (see
//! `path`); on equal paths, one that names the method goes before one for all methods. The order
//! of declaration never matters. There is no way back to a less specific API.

mod host;
mod methods;
mod path;
mod table;

pub use host::canonical as canonical_host;
pub use path::{Params, TemplateFault, parameter_names};
pub use table::{ApiSpec, Conflict, Found, ListenerId, Match, OperationSpec, RouteId, Router};
