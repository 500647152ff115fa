//! Waiting for a condition with a deadline, never for a time.

use super::{Result, WorldError};
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(20);

/// What one look at a condition found.
#[derive(Debug)]
pub enum Look<T> {
    /// The condition holds, with this result.
    Holds(T),
    /// Not yet; this is what was seen instead.
    NotYet(String),
}

/// Looks at a condition every 20 ms until it holds.
///
/// # Errors
/// [`WorldError::Deadline`] when it does not hold within `deadline`, naming `what` and the last observation; the error
/// of `look` at once when it fails.
pub fn wait_until<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Result<Look<T>>) -> Result<T> {
    let started = Instant::now();
    loop {
        let seen = match look()? {
            Look::Holds(result) => return Ok(result),
            Look::NotYet(seen) => seen,
        };
        if started.elapsed() >= deadline {
            return Err(WorldError::Deadline { what: what.into(), waited: deadline, seen });
        }
        std::thread::sleep(INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_as_soon_as_the_condition_holds() {
        let mut looks = 0;
        let result = wait_until("the third look", Duration::from_secs(60), || {
            looks += 1;
            Ok(if looks == 3 { Look::Holds(looks) } else { Look::NotYet(looks.to_string()) })
        });
        assert_eq!(result.unwrap(), 3);
    }

    #[test]
    fn names_the_condition_and_the_last_observation_at_the_deadline() {
        let error = wait_until::<()>("rain", Duration::ZERO, || Ok(Look::NotYet("sunshine".into()))).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("rain") && text.contains("sunshine"), "{text}");
    }
}
