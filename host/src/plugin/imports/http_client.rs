//! `http-client`: calls to upstreams that suspend the guest, not the gateway.
//!
//! The call itself is made by the worker that the exchange runs on (see `FetchPort`); here it is
//! judged (granted? within bounds?) and waited for.

use crate::plugin::bindings::witgate::policy::http_client::{FetchError, FetchRequest, FetchResponse, Host};
use crate::plugin::facts::FetchJob;
use crate::plugin::guest::Guest;
use tokio::sync::oneshot;

type Answer = Result<FetchResponse, FetchError>;

impl Host for Guest {
    async fn fetch(&mut self, request: FetchRequest) -> Answer {
        match self.start(request) {
            Ok(answer) => answer.await.unwrap_or(Err(FetchError::Connect)),
            Err(error) => Err(error),
        }
    }

    async fn fetch_all(&mut self, requests: Vec<FetchRequest>) -> Vec<Answer> {
        let started: Vec<_> = requests.into_iter().map(|request| self.start(request)).collect();
        let mut answers = Vec::with_capacity(started.len());
        // All are under way already; waiting in order takes as long as the slowest.
        for answer in started {
            answers.push(match answer {
                Ok(answer) => answer.await.unwrap_or(Err(FetchError::Connect)),
                Err(error) => Err(error),
            });
        }
        answers
    }
}

impl Guest {
    fn start(&mut self, request: FetchRequest) -> Result<oneshot::Receiver<Answer>, FetchError> {
        called!("http-client.fetch({} {} {})", request.upstream, request.method, request.path);
        if !self.about.grants.upstreams.contains(&request.upstream) {
            return Err(FetchError::NotGranted);
        }
        // Whatever comes back must fit beside what the guest has already.
        let bytes_max = self.memory_left() / 2;
        let facts = self.facts.as_mut().ok_or(FetchError::NotGranted)?;
        facts.fetches_left = facts.fetches_left.checked_sub(1).ok_or(FetchError::TooLarge)?;
        let (reply, answer) = oneshot::channel();
        facts.port.0.send(FetchJob { request, bytes_max, reply }).map_err(|_| FetchError::Connect)?;
        Ok(answer)
    }
}
