//! Tells the demo's story: one line per step with ✔ or ✘, what was seen below it, and the sum at the end.

use anyhow::Result;
use std::io::{IsTerminal, stdout};

/// What a step gives to the next ones, and the lines that it shows.
pub type Told<T> = Result<(T, Vec<String>)>;

/// Counts the steps that held.
pub struct Narrator {
    steps: usize,
    held: usize,
    told: usize,
    colour: bool,
}

impl Narrator {
    /// A story of `steps` steps.
    pub fn new(steps: usize) -> Narrator {
        Narrator { steps, held: 0, told: 0, colour: stdout().is_terminal() }
    }

    /// Says something between the steps.
    pub fn say(&self, text: &str) {
        println!("{text}");
    }

    /// Does a step and tells how it went. `None`: it did not hold.
    pub fn step<T>(&mut self, title: &str, act: impl FnOnce() -> Told<T>) -> Option<T> {
        self.told += 1;
        let (mark, colour, lines, result) = match act() {
            Ok((result, lines)) => {
                self.held += 1;
                ('✔', 32, lines, Some(result))
            }
            Err(error) => ('✘', 31, vec![format!("{error:#}")], None),
        };
        if self.colour {
            println!("\n\x1b[1;{colour}m{mark}\x1b[0m \x1b[1m{title}\x1b[0m");
        } else {
            println!("\n{mark} {title}");
        }
        for line in lines.iter().flat_map(|lines| lines.lines()) {
            println!("    {line}");
        }
        result
    }

    /// A step did not hold.
    pub fn failed(&self) -> bool {
        self.held < self.told
    }

    /// All steps were done and held.
    pub fn all_held(&self) -> bool {
        self.held == self.steps && self.told == self.steps
    }

    /// The summary line. A step that was never reached did not hold.
    pub fn summary(&self) -> String {
        format!("demo: {} of {} steps held", self.held, self.steps.max(self.told))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn only_a_whole_story_without_failure_holds() {
        let mut narrator = Narrator::new(2);
        assert_eq!(narrator.step("one", || Ok((1, vec![]))), Some(1));
        assert!(!narrator.all_held());
        assert_eq!(narrator.summary(), "demo: 1 of 2 steps held");
        narrator.step("two", || Ok(((), vec![])));
        assert!(narrator.all_held());
        assert_eq!(narrator.summary(), "demo: 2 of 2 steps held");
    }

    #[test]
    fn a_failed_step_is_counted_as_not_held() {
        let mut narrator = Narrator::new(2);
        narrator.step("one", || Ok(((), vec![])));
        assert_eq!(narrator.step("two", || Told::<()>::Err(anyhow!("broken"))), None);
        assert!(!narrator.all_held());
        assert_eq!(narrator.summary(), "demo: 1 of 2 steps held");
    }
}
