//! `cargo xtask firmware size`: what the nodes take of flash and RAM, whose it is, and whether that is within the budget.

mod budget;
mod parts;
mod usage;

use super::boards::{self, Board};
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

/// What exceeds the memory that a board has for a program. Its manifest says how much that is, and no raise changes it.
fn beyond_the_board(board: &Board, usage: &Usage) -> Vec<String> {
    let (flash, ram) = (usage.flash.total(), usage.ram.total() + usage.stack);
    let what = [("flash", flash, board.facts.flash_bytes), ("RAM, with the stack", ram, board.facts.ram_bytes)];
    let beyond = what.into_iter().filter(|(_, taken, limit)| taken > limit);
    beyond
        .map(|(what, taken, limit)| {
            format!("{} takes {taken} bytes of {what}, and its board has {limit} (`{}`)", board.name, "firmware/boards")
        })
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
