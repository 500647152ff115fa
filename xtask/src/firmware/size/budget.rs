//! The committed budget: what each board's node may take, which a change may not exceed without saying so.

use super::usage::Usage;
use crate::workspace;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Budgets are whole multiples of this many bytes: what a new compiler moves by itself seldom exceeds them.
const STEP: u64 = 1024;

/// What one board's node may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Bytes of flash.
    pub flash: u64,
    /// Bytes of RAM, the stack apart.
    pub ram: u64,
    /// The compiler that it was taken with.
    pub rustc: String,
    /// Why it was last raised.
    pub reason: String,
}

/// The budgets of all boards, by name.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Budgets(BTreeMap<String, Budget>);

impl Budgets {
    /// The committed ones; none when there is no file yet.
    ///
    /// # Errors
    /// When the file can't be understood.
    pub fn read() -> Result<Self> {
        let path = path();
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).with_context(|| format!("{} is no budget", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("{} can't be read", path.display())),
        }
    }

    /// Makes them the committed ones.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn write(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(path(), text).with_context(|| format!("{} can't be written", path().display()))
    }

    /// The budget of a board.
    pub fn of(&self, board: &str) -> Option<&Budget> {
        self.0.get(board)
    }

    /// Makes what was measured the budget, for this reason. One that is the same already keeps its own.
    ///
    /// # Errors
    /// When the reason is empty.
    pub fn raise(&mut self, board: &str, usage: &Usage, rustc: &str, reason: &str) -> Result<()> {
        let reason = reason.trim();
        if reason.is_empty() {
            bail!("the reason is empty: say what the memory is spent on");
        }
        let [flash, ram] = [usage.flash.total(), usage.ram.total()].map(|bytes| bytes.next_multiple_of(STEP));
        if self.of(board).is_none_or(|budget| (budget.flash, budget.ram) != (flash, ram)) {
            let budget = Budget { flash, ram, rustc: rustc.to_owned(), reason: reason.to_owned() };
            self.0.insert(board.to_owned(), budget);
        }
        Ok(())
    }

    /// Forgets boards that are not these.
    pub fn keep(&mut self, boards: &[&str]) {
        self.0.retain(|board, _| boards.contains(&board.as_str()));
    }

    /// Where a board's node exceeds its budget.
    pub fn complaints(&self, board: &str, usage: &Usage, rustc: &str) -> Vec<String> {
        let Some(budget) = self.of(board) else {
            return vec![format!("{board} has no budget. {HOW_TO_RAISE}")];
        };
        let taken = [("flash", usage.flash.total(), budget.flash), ("RAM", usage.ram.total(), budget.ram)];
        let mut complaints: Vec<String> = taken
            .iter()
            .filter(|(_, taken, budget)| taken > budget)
            .map(|(what, taken, budget)| format!("{board} takes {taken} bytes of {what}, and its budget is {budget}"))
            .collect();
        if !complaints.is_empty() {
            if budget.rustc != rustc {
                complaints.push(format!("The budget was taken with rustc {}, this is {rustc}.", budget.rustc));
            }
            complaints.push(HOW_TO_RAISE.to_owned());
        }
        complaints
    }

    /// Budgets of boards that are no more.
    pub fn leftovers(&self, boards: &[&str]) -> Vec<String> {
        let gone = self.0.keys().filter(|board| !boards.contains(&board.as_str()));
        gone.map(|board| format!("{board} has a budget and is no board. {HOW_TO_RAISE}")).collect()
    }
}

const HOW_TO_RAISE: &str = "If it has to be so, `cargo xtask firmware size --raise REASON` makes what was measured the new budget, \
     in the same change.";

fn path() -> PathBuf {
    workspace::root().join("firmware/size-budget.json")
}

#[cfg(test)]
mod tests {
    use super::super::parts::Part;
    use super::super::usage::Split;
    use super::*;

    fn usage(flash: u64, ram: u64) -> Usage {
        let split = |bytes| Split::from_iter([(Part::Core, bytes)]);
        Usage { flash: split(flash), ram: split(ram), stack: 0 }
    }

    #[test]
    fn what_was_measured_fits_and_a_step_more_does_not() {
        let mut budgets = Budgets::default();
        assert_eq!(budgets.complaints("b", &usage(1, 1), "1").len(), 1);
        budgets.raise("b", &usage(1000, 2048), "1", "first").unwrap();
        assert!(budgets.complaints("b", &usage(1024, 2048), "1").is_empty());
        // One that is too large, and how to raise it; with another compiler, that too.
        assert_eq!(budgets.complaints("b", &usage(1024, 2049), "1").len(), 2);
        assert_eq!(budgets.complaints("b", &usage(1025, 2049), "2").len(), 4);
    }

    #[test]
    fn a_reason_is_needed_and_stays_with_what_it_was_given_for() {
        let mut budgets = Budgets::default();
        assert!(budgets.raise("b", &usage(1, 1), "1", " ").is_err());
        budgets.raise("b", &usage(1, 1), "1", "first").unwrap();
        budgets.raise("b", &usage(2, 2), "1", "second").unwrap();
        assert_eq!(budgets.of("b").unwrap().reason, "first");
        budgets.raise("b", &usage(2000, 2), "1", "third").unwrap();
        assert_eq!(budgets.of("b").unwrap().reason, "third");
    }

    #[test]
    fn a_board_that_is_gone_is_noticed_and_forgotten() {
        let mut budgets = Budgets::default();
        budgets.raise("old", &usage(1, 1), "1", "first").unwrap();
        assert_eq!(budgets.leftovers(&["new"]).len(), 1);
        budgets.keep(&["new"]);
        assert!(budgets.leftovers(&["new"]).is_empty());
    }
}
