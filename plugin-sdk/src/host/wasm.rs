//! The host's functions as the component imports them.

pub(crate) use crate::bindings::imports::witgate::policy::{
    consumers, crypto, env, http_client, jwt, log, message, metrics, plan, rate_limit, shared_state,
};
