//! The lamp, which says how the node is, and the watchdog, which is fed beside it.
//!
//! A lamp that is on is a node that is a member. Otherwise it blinks a number, pauses, and blinks it again.

use acorn_embassy::{Clashes, NodeStatus, Standing};
use defmt::Format;
use embassy_futures::select::{Either, select};
use embassy_time::{Duration, Instant, Timer};

use crate::board::{Indicator, Watchdog};

/// How often the watchdog is fed.
const FEED: Duration = Duration::from_secs(4);
/// How long the lamp is on in a blink, and off behind it.
const BLINK: Duration = Duration::from_millis(150);
/// The pause behind a number.
const PAUSE: Duration = Duration::from_millis(1200);
/// How long a clash of addresses is shown.
const CLASH_SHOWN: Duration = Duration::from_secs(60);
/// How often what can't go on is said again.
const SAID_AGAIN: Duration = Duration::from_secs(30);

/// What the lamp shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Format)]
pub enum Pattern {
    /// On: the node is a member and its manager answers.
    Member,
    /// One blink: no link or no address on the underlay.
    NoUnderlay,
    /// Two: the manager does not answer.
    NoManager,
    /// Three: the manager refuses the node or its token.
    Refused,
    /// Four: the manager speaks another protocol version.
    Version,
    /// Five: another machine uses the board's underlay address.
    Clash,
    /// Six: the board is not provisioned, or can't be started so.
    Hopeless,
}

impl Pattern {
    fn of(standing: Standing, clashes: bool) -> Self {
        match standing {
            _ if clashes => Self::Clash,
            Standing::Member => Self::Member,
            Standing::NoUnderlay => Self::NoUnderlay,
            Standing::Joining | Standing::ManagerSilent | Standing::Alone => Self::NoManager,
            Standing::Refused(_) => Self::Refused,
            Standing::ManagerVersion(_) => Self::Version,
        }
    }

    fn blinks(self) -> u32 {
        match self {
            Self::Member => 0,
            Self::NoUnderlay => 1,
            Self::NoManager => 2,
            Self::Refused => 3,
            Self::Version => 4,
            Self::Clash => 5,
            Self::Hopeless => 6,
        }
    }
}

/// Shows how the node is, for ever.
pub(crate) async fn show(
    status: NodeStatus<'static>,
    clashes: &'static Clashes,
    indicator: &mut dyn Indicator,
    watchdog: &mut dyn Watchdog,
) -> ! {
    loop {
        watchdog.feed();
        let changes = status.changes();
        let clash = clashes.last().is_some_and(|clash| Instant::now() < clash.at + CLASH_SHOWN);
        let pattern = Pattern::of(status.get().standing, clash);
        if pattern.blinks() > 0 {
            blink(pattern, indicator).await;
        } else {
            // The lamp stays as it is: nothing has to wake the processor for it.
            indicator.set(true);
            let _: Either<_, _> = select(Timer::after(FEED), status.changed_since(changes)).await;
        }
    }
}

/// Says for ever why there is nothing that the board could do.
pub(crate) async fn hopeless(
    problem: &dyn core::fmt::Display,
    indicator: &mut dyn Indicator,
    watchdog: &mut dyn Watchdog,
) -> ! {
    loop {
        defmt::error!("this board can't start: {}", defmt::Display2Format(&problem));
        let until = Instant::now() + SAID_AGAIN;
        while Instant::now() < until {
            watchdog.feed();
            blink(Pattern::Hopeless, indicator).await;
        }
    }
}

/// Blinks a number and pauses: at most 3 s.
async fn blink(pattern: Pattern, indicator: &mut dyn Indicator) {
    for _ in 0..pattern.blinks() {
        indicator.set(true);
        Timer::after(BLINK).await;
        indicator.set(false);
        Timer::after(BLINK).await;
    }
    Timer::after(PAUSE).await;
}
