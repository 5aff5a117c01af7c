//! What is served where.
//!
//! Called for each request; asks the guard, then the source. Never reads a request's body.

use super::answer::{self, Answer};
use super::dashboard::Dashboard;
use super::guard::{Guard, Refusal};
use super::{Ready, Source};
use http::header::{ALLOW, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, StatusCode};
use std::sync::Arc;

pub(super) struct Routes {
    guard: Guard,
    source: Arc<dyn Source>,
    dashboard: Dashboard,
}

#[derive(Clone, Copy)]
enum Route {
    Health,
    Ready,
    Metrics,
    Config,
    Plugins,
    Upstreams,
    Reload,
    Dashboard,
}

impl Route {
    fn find(path: &str) -> Option<Route> {
        Some(match path {
            "/healthz" => Route::Health,
            "/readyz" => Route::Ready,
            "/metrics" => Route::Metrics,
            "/config" => Route::Config,
            "/plugins" => Route::Plugins,
            "/upstreams" => Route::Upstreams,
            "/reload" => Route::Reload,
            "/" => Route::Dashboard,
            _ => return None,
        })
    }

    /// Says only whether the gateway lives and takes traffic, to probes that have neither a token
    /// nor a name for this machine.
    fn is_public(self) -> bool {
        matches!(self, Route::Health | Route::Ready)
    }

    fn allows(self, method: &Method) -> bool {
        match self {
            Route::Reload => *method == Method::POST,
            _ => *method == Method::GET || *method == Method::HEAD,
        }
    }

    fn allow(self) -> HeaderValue {
        HeaderValue::from_static(if matches!(self, Route::Reload) { "POST" } else { "GET, HEAD" })
    }
}

impl Routes {
    pub(super) fn new(guard: Guard, source: Arc<dyn Source>) -> Routes {
        Routes { guard, source, dashboard: Dashboard::new() }
    }

    /// Dropping it (the client went away) does not stop a reload that has begun.
    pub(super) async fn answer<B>(&self, request: Request<B>) -> Answer {
        let route = Route::find(request.uri().path());
        if !route.is_some_and(Route::is_public)
            && let Err(refusal) = self.guard.check(&request)
        {
            return refused(refusal);
        }
        let Some(route) = route else {
            return answer::problem(StatusCode::NOT_FOUND, "not_found", "nothing is served here");
        };
        if !route.allows(request.method()) {
            let detail = "this method is not served here";
            let mut answer = answer::problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
            answer.headers_mut().insert(ALLOW, route.allow());
            return answer;
        }
        match route {
            Route::Health => answer::text(StatusCode::OK, "ok\n".to_owned()),
            Route::Ready => match self.source.ready() {
                Ready::Yes => answer::text(StatusCode::OK, "ready\n".to_owned()),
                Ready::Starting => answer::text(StatusCode::SERVICE_UNAVAILABLE, "starting\n".to_owned()),
                Ready::Draining => answer::text(StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned()),
            },
            Route::Metrics => {
                let mut text = String::new();
                self.source.metrics(&mut text);
                answer::metrics(text)
            }
            Route::Config => answer::json(&self.source.config()),
            Route::Plugins => answer::json(&self.source.plugins()),
            Route::Upstreams => answer::json(&self.source.upstreams()),
            Route::Reload => self.reload().await,
            Route::Dashboard => self.dashboard.page(&*self.source),
        }
    }

    async fn reload(&self) -> Answer {
        // On a task of its own, which goes on when this future is dropped.
        match tokio::spawn(self.source.reload()).await {
            Ok(Ok(report)) => answer::text(StatusCode::OK, line(report)),
            Ok(Err(report)) => answer::text(StatusCode::UNPROCESSABLE_ENTITY, line(report)),
            Err(error) => {
                tracing::error!(%error, "a reload that was asked for by admin broke off");
                let detail = "the reload broke off; the log says more";
                answer::problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
            }
        }
    }
}

fn line(mut report: String) -> String {
    if !report.ends_with('\n') {
        report.push('\n');
    }
    report
}

fn refused(refusal: Refusal) -> Answer {
    match refusal {
        Refusal::Closed => answer::problem(
            StatusCode::FORBIDDEN,
            "admin_closed",
            "admin is open to the network and has no token: set `admin.token`, or listen on 127.0.0.1",
        ),
        Refusal::Host => answer::problem(
            StatusCode::MISDIRECTED_REQUEST,
            "misdirected",
            "the Host field is missing, repeated or names another machine",
        ),
        Refusal::CrossSite => answer::problem(
            StatusCode::FORBIDDEN,
            "cross_site",
            "a browser may ask only from this very address",
        ),
        Refusal::Token => {
            let detail = "the admin token is missing or wrong";
            let mut answer = answer::problem(StatusCode::UNAUTHORIZED, "unauthorized", detail);
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            answer
        }
    }
}
