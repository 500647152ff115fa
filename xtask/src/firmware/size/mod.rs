//! `cargo xtask firmware size`: what the nodes take of flash and RAM, whose it is, and whether that is within the budget.

mod budget;
mod parts;
mod usage;

use super::boards::{self, Board, Facts};
use super::build;
use anyhow::{Context, Result, bail};
use budget::Budgets;
use parts::Part;
use std::fs;
use usage::Usage;

/// Builds the nodes of all boards, or of one, prints what they take, and compares it with the budget, or makes it the budget.
///
/// # Errors
/// When a node can't be built, takes more than its board has, or, without a reason to raise the budget, more than that.
pub fn run(board: Option<&str>, raise: Option<&str>) -> Result<()> {
    let all = boards::all()?;
    let boards = match board {
        Some(name) => vec![boards::named(name)?],
        None => all.clone(),
    };
    let mut measured = Vec::new();
    for board in &boards {
        let release = build::node(board)?.release()?;
        let program = board.program();
        let elf = fs::read(&program).with_context(|| format!("{} can't be read", program.display()))?;
        let usage = Usage::of(&elf).with_context(|| format!("{} can't be understood", program.display()))?;
        measured.push((board, usage, release));
    }
    let mut budgets = Budgets::read()?;
    let mut complaints = Vec::new();
    for (board, usage, release) in &measured {
        complaints.extend(beyond_the_board(board, usage));
        if let Some(reason) = raise {
            budgets.raise(&board.name, usage, release, reason)?;
        }
        print(board, usage, budgets.of(&board.name));
        complaints.extend(budgets.complaints(&board.name, usage, release));
    }
    let names: Vec<&str> = all.iter().map(|board| board.name.as_str()).collect();
    if raise.is_some() {
        budgets.keep(&names);
    }
    complaints.extend(budgets.leftovers(&names));
    if !complaints.is_empty() {
        bail!("{}", complaints.join("\n"));
    }
    if raise.is_some() {
        budgets.write()?;
        println!("\nThis is the new budget.");
    }
    Ok(())
}

/// What exceeds the memory that a board has for a program, its stack apart. Its manifest says how much that is, and no raise changes it.
fn beyond_the_board(board: &Board, usage: &Usage) -> Vec<String> {
    let Facts { flash_bytes, ram_bytes, .. } = board.facts;
    let what = [("flash", usage.flash.total(), flash_bytes), ("RAM", usage.ram.total(), ram_bytes)];
    let beyond = what.into_iter().filter(|(_, taken, limit)| taken > limit);
    let name = &board.name;
    beyond
        .map(|(what, taken, limit)| format!("{name} takes {taken} bytes of {what}, and its board has {limit}"))
        .collect()
}

/// The table of one board.
fn print(board: &Board, usage: &Usage, budget: Option<&budget::Budget>) {
    println!("\n{} ({})", board.name, board.facts.target);
    println!("  {:<44} {:>9} {:>9}", "bytes", "flash", "RAM");
    for part in Part::ALL {
        println!("  {:<44} {:>9} {:>9}", part.name(), usage.flash.of(part), usage.ram.of(part));
    }
    println!("  {:<44} {:>9} {:>9}", "total", usage.flash.total(), usage.ram.total());
    if let Some(budget) = budget {
        println!("  {:<44} {:>9} {:>9}", "budget", budget.flash, budget.ram);
    }
    println!("  {:<44} {:>9} {:>9}", "the stack's region", "", usage.stack);
    println!("  {:<44} {:>9} {:>9}", "the board's memory", board.facts.flash_bytes, board.facts.ram_bytes);
}

#[cfg(test)]
mod tests {
    use super::usage::Split;
    use super::*;

    #[test]
    fn what_a_board_has_is_the_limit() {
        let facts =
            Facts { target: String::new(), chip: None, provisioning_address: None, flash_bytes: 1000, ram_bytes: 100 };
        let board = Board { name: "b".to_owned(), facts };
        let usage = |flash, ram| {
            let split = |bytes| Split::from_iter([(Part::Core, bytes)]);
            Usage { flash: split(flash), ram: split(ram), stack: 1 }
        };
        assert!(beyond_the_board(&board, &usage(1000, 100)).is_empty());
        assert_eq!(beyond_the_board(&board, &usage(1001, 101)).len(), 2);
    }
}
