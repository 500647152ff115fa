//! Log lines through defmt where the feature is on, and nothing where it is not.

macro_rules! info {
    ($($arg:expr),+ $(,)?) => {{
        #[cfg(feature = "defmt")]
        defmt::info!($($arg),+);
        #[cfg(not(feature = "defmt"))]
        let _ = ($(&$arg),+);
    }};
}

macro_rules! warning {
    ($($arg:expr),+ $(,)?) => {{
        #[cfg(feature = "defmt")]
        defmt::warn!($($arg),+);
        #[cfg(not(feature = "defmt"))]
        let _ = ($(&$arg),+);
    }};
}

pub(crate) use {info, warning as warn};
