//! The one body type of the request path.
//!
//! `exchange`, `chain`, `upstream` and `connection` pass it along; most bodies are hyper's own or
//! one chunk, so only the rest pays for a box. Never buffers.

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Why a body broke off; hyper wants a boxed error that is `Send` and `Sync`.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A body that is not one of the two common ones.
pub type DynBody = Pin<Box<dyn http_body::Body<Data = Bytes, Error = BodyError>>>;

#[derive(Default)]
pub enum Body {
    #[default]
    Empty,
    /// One chunk, taken when it is polled.
    Full(Bytes),
    /// As it arrives from a client or an upstream.
    Incoming(Incoming),
    Dyn(DynBody),
}

impl Body {
    pub fn full(bytes: impl Into<Bytes>) -> Body {
        let bytes = bytes.into();
        if bytes.is_empty() { Body::Empty } else { Body::Full(bytes) }
    }

    pub fn wrap(body: impl http_body::Body<Data = Bytes, Error = BodyError> + 'static) -> Body {
        Body::Dyn(Box::pin(body))
    }
}

impl From<Incoming> for Body {
    fn from(body: Incoming) -> Body {
        Body::Incoming(body)
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Body::Empty => "Empty",
            Body::Full(_) => "Full",
            Body::Incoming(_) => "Incoming",
            Body::Dyn(_) => "Dyn",
        })
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match this {
            Body::Empty => Poll::Ready(None),
            Body::Full(_) => match std::mem::take(this) {
                Body::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                _ => Poll::Ready(None),
            },
            Body::Incoming(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Body::Dyn(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Empty => true,
            Body::Full(_) => false,
            Body::Incoming(body) => body.is_end_stream(),
            Body::Dyn(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Empty => SizeHint::with_exact(0),
            Body::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::Incoming(body) => body.size_hint(),
            Body::Dyn(body) => body.size_hint(),
        }
    }
}
