//! `http-client`: calls to upstreams that suspend the guest, not the gateway.
//!
//! The call itself is made by the worker that the exchange runs on (see `FetchPort`); here it is
//! judged (granted? within bounds?) and waited for.

use crate::plugin::bindings::witgate::policy::http_client::{FetchError, FetchRequest, FetchResponse, Host};
use crate::plugin::facts::FetchJob;
use crate::plugin::guest::Guest;
use tokio::sync::oneshot;

type Answer = Result<FetchResponse, FetchError>;

/// What a header line takes in a guest's memory beside its name and its value.
const FIELD_BYTES: usize = 64;

impl Host for Guest {
    async fn fetch(&mut self, request: FetchRequest) -> Answer {
        match self.start(request) {
            Ok(answer) => answer.await.unwrap_or(Err(FetchError::Connect)),
            Err(error) => Err(error),
        }
    }

    async fn fetch_all(&mut self, requests: Vec<FetchRequest>) -> Vec<Answer> {
        let started: Vec<_> = requests.into_iter().map(|request| self.start(request)).collect();
        // The guest gets all of them at once: each fits by itself, together they must too.
        let mut room = Room(self.answer_bytes_max());
        let mut answers = Vec::with_capacity(started.len());
        // All are under way already; waiting in order takes as long as the slowest.
        for answer in started {
            let answer = match answer {
                Ok(answer) => answer.await.unwrap_or(Err(FetchError::Connect)),
                Err(error) => Err(error),
            };
            answers.push(answer.and_then(|answer| room.admit(answer)));
        }
        answers
    }
}

/// Bytes of a guest's memory that the answers of one call may still take.
struct Room(usize);

impl Room {
    fn admit(&mut self, answer: FetchResponse) -> Answer {
        let fields: usize =
            answer.headers.iter().map(|(name, value)| name.len() + value.len() + FIELD_BYTES).sum();
        self.0 = self.0.checked_sub(answer.body.len() + fields).ok_or(FetchError::TooLarge)?;
        Ok(answer)
    }
}

impl Guest {
    fn start(&mut self, request: FetchRequest) -> Result<oneshot::Receiver<Answer>, FetchError> {
        called!("http-client.fetch({} {} {})", request.upstream, request.method, request.path);
        if !self.about.grants.upstreams.contains(&request.upstream) {
            return Err(FetchError::NotGranted);
        }
        let bytes_max = self.answer_bytes_max();
        let facts = self.facts.as_mut().ok_or(FetchError::NotGranted)?;
        facts.fetches_left = facts.fetches_left.checked_sub(1).ok_or(FetchError::TooLarge)?;
        let (reply, answer) = oneshot::channel();
        self.fetched = true;
        facts.port.0.send(FetchJob { request, bytes_max, reply }).map_err(|_| FetchError::Connect)?;
        Ok(answer)
    }

    /// Whatever comes back must fit beside what the guest has already, and what it makes of it too.
    fn answer_bytes_max(&self) -> usize {
        self.memory_left() / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_fit_together() {
        let answer = |bytes: usize| FetchResponse {
            status: 200,
            headers: vec![("a".into(), "b".into())],
            body: vec![0; bytes],
        };
        let mut room = Room(1000);
        assert!(room.admit(answer(600)).is_ok());
        assert!(matches!(room.admit(answer(400)), Err(FetchError::TooLarge)));
        assert!(room.admit(answer(200)).is_ok(), "one that does not fit takes no room");
    }
}
