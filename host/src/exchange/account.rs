//! The account of an exchange: metrics, access log, log policies, written once it is over.
//!
//! `run` opens it first and closes it with the answer; the answer's body carries it to its last
//! byte, or to where the client left. Every exchange is written down exactly once. Never changes
//! what the client gets.

use super::intake::{Counted, Refused};
use super::outcome::{Answered, Outcome};
use super::view::View;
use super::worker::Worker;
use super::Inlet;
use crate::chain;
use crate::chain::Subject;
use crate::chain::subject::End;
use crate::connection::Fault;
use crate::message::body::{Body, BodyError};
use crate::message::peer::Peer;
use crate::message::problem::Problem;
use crate::snapshot::Route;
use crate::telemetry::access_log::{Answered as Who, Entry};
use crate::telemetry::reason::Reason;
use crate::upstream::Call;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
