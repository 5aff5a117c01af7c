//! Passwords, checked against argon2id hashes a few at a time.
//!
//! Called by `plugin` (the `crypto` import). A check takes up to 64 MiB and half a second, and nothing
//! can stop one that has begun: so as many run at once as there are processors, on threads of their
//! own, and whoever comes waits. Never blocks a worker.

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordVerifier};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// PHC strings are about a hundred characters long.
const PHC_BYTES_MAX: usize = 512;
const PASSWORD_BYTES_MAX: usize = 4096;
/// In KiB: 64 MiB, above what OWASP and RFC 9106's second choice ask for.
const MEMORY_KIB_MAX: u32 = 64 << 10;
const PASSES_MAX: u32 = 10;
const LANES_MAX: u32 = 16;

/// The seats of the checks that run at once, shared by all workers.
pub struct Passwords(Arc<Semaphore>);

impl Passwords {
    /// `at_once`: how many checks may run at the same time.
    pub fn new(at_once: usize) -> Passwords {
        Passwords(Arc::new(Semaphore::new(at_once)))
    }

    /// Whether the password belongs to an argon2id PHC string; false also for a string that is none.
    /// Dropped while it waits, it is as if it had never come.
    pub async fn verify(&self, password: String, phc: String) -> bool {
        let Ok(seat) = Arc::clone(&self.0).acquire_owned().await else { return false };
        let check = tokio::task::spawn_blocking(move || {
            // Kept to the end of the check, whoever still waits for it.
            let _seat = seat;
            verify(&password, &phc)
        });
        check.await.unwrap_or(false)
    }
}

impl Default for Passwords {
    fn default() -> Passwords {
        Passwords::new(std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
    }
}

/// Whether the password belongs to an argon2id PHC string. False also for other algorithms
/// (scrypt, pbkdf2 and bcrypt are not supported), for a malformed string, and for one that asks
/// for more than 64 MiB, 10 passes or 16 lanes.
///
/// Slow on purpose: some 20 ms with common parameters, half a second at the bounds.
fn verify(password: &str, phc: &str) -> bool {
    if phc.len() > PHC_BYTES_MAX || password.len() > PASSWORD_BYTES_MAX {
        return false;
    }
    let Ok(hash) = PasswordHash::new(phc) else { return false };
    let Ok(params) = Params::try_from(&hash) else { return false };
    let within =
        params.m_cost() <= MEMORY_KIB_MAX && params.t_cost() <= PASSES_MAX && params.p_cost() <= LANES_MAX;
    within
        && hash.algorithm.as_str() == Algorithm::Argon2id.as_str()
        && Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::task::{Context, Waker};

    /// Made by the reference implementation's test vectors' parameters, small for speed.
    fn phc(params: &str) -> String {
        let mut out = [0; 32];
        let small = Params::new(64, 1, 1, Some(32)).unwrap();
        Argon2::new(Algorithm::Argon2id, argon2::Version::V0x13, small)
            .hash_password_into(b"correct horse", b"saltsaltsalt", &mut out)
            .unwrap();
        use base64::Engine;
        use base64::engine::general_purpose::STANDARD_NO_PAD;
        format!("{params}${}${}", STANDARD_NO_PAD.encode(b"saltsaltsalt"), STANDARD_NO_PAD.encode(out))
    }

    #[test]
    fn passwords_match_or_not() {
        let good = phc("$argon2id$v=19$m=64,t=1,p=1");
        assert!(verify("correct horse", &good));
        assert!(!verify("correct horsf", &good));
        assert!(!verify("", &good));
    }

    #[test]
    fn other_algorithms_and_dear_parameters_are_refused() {
        for params in [
            "$argon2i$v=19$m=64,t=1,p=1",
            "$argon2d$v=19$m=64,t=1,p=1",
            "$scrypt$ln=4,r=8,p=1",
            "$argon2id$v=19$m=65537,t=1,p=1",
            "$argon2id$v=19$m=64,t=11,p=1",
            "$argon2id$v=19$m=4294967295,t=4294967295,p=1",
            "$argon2id$v=19$m=1024,t=1,p=17",
        ] {
            assert!(!verify("correct horse", &phc(params)), "{params}");
        }
        for bad in
            ["", "$", "$argon2id$v=19$m=64,t=1,p=1", "$2b$12$abcdefghijklmnopqrstuv", &"$".repeat(1_000)]
        {
            assert!(!verify("correct horse", bad), "{bad:.40}");
        }
    }

    proptest! {
        #[test]
        fn phc_strings_never_panic(text in "[$a-z0-9=,+/]{0,80}") {
            verify("p", &text);
            verify("p", &format!("$argon2id$v=19${text}"));
        }
    }

    #[tokio::test]
    async fn only_so_many_are_checked_at_once_and_who_leaves_holds_no_seat() {
        let passwords = Passwords::new(1);
        let good = phc("$argon2id$v=19$m=64,t=1,p=1");
        let taken = Arc::clone(&passwords.0).acquire_owned().await.unwrap();
        let mut waits = Box::pin(passwords.verify("correct horse".into(), good.clone()));
        let mut context = Context::from_waker(Waker::noop());
        assert!(waits.as_mut().poll(&mut context).is_pending(), "there is one seat");
        drop(waits);
        drop(taken);
        assert!(passwords.verify("correct horse".into(), good).await);
        assert_eq!(passwords.0.available_permits(), 1);
    }
}
