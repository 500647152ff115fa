//! The showcase: the reference example, run for real between network namespaces of a private world, and checked step by
//! step. Nothing of it outlives the program, whatever ends it, unless it is told to stay.

mod address_table;
mod board;
mod checks;
mod host_network;
mod narrator;
mod story;

use crate::{debian, firmware, workspace};
use acorn_tests::acorn::Acorn;
use acorn_tests::world::World;
use anyhow::{Context, Result};
use host_network::HostNetwork;
use narrator::Narrator;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Lines of each log that are shown after a failure.
const LOG_LINES: usize = 12;

/// Builds everything and tells the story. With `keep` it leaves everything running at the end.
///
/// # Errors
/// When it can't even begin: something is missing or does not build, or the kernel does not allow private namespaces.
pub fn run(keep: bool) -> Result<ExitCode> {
    debian::require(&debian::BUILD)?;
    debian::require(&debian::DEMO)?;
    debian::require(&debian::EMULATOR)?;
    let binary = build()?;
    println!("Building the firmware of an emulated board.");
    let firmware = firmware::Programs::of_node()?;
    let program = std::env::current_exe().context("finding this program")?;
    let program = program.to_str().context("this program's path is not UTF-8")?;
    let traffic = [program, "traffic"];

    let started = Instant::now();
    let before = HostNetwork::look()?;
    let world = World::new()?;
    // The last step is told here, after the story.
    let mut narrator = Narrator::new(1 + if keep { story::STEPS - 1 } else { story::STEPS });
    let mut stage = story::Stage::default();
    let told = story::tell(&mut narrator, &world, &mut stage, (&binary, &firmware), &traffic, keep);
    if narrator.failed() {
        if told.is_none() {
            narrator.say("\nThe story ends here: no further step could work.");
        }
        show_logs(&narrator, &world);
    }

    let look_around = keep.then(|| look_around(&world, &stage));
    if keep {
        stage.release();
        world.keep()?;
    } else {
        drop(stage);
        drop(world);
    }
    narrator.step("The host's own network is untouched", || {
        before.compare(&HostNetwork::look()?)?;
        Ok(((), vec![format!("{} interfaces, addresses, routes, rules and settings are as before", before.len())]))
    });
    if let Some(text) = look_around {
        narrator.say(&text);
    }
    narrator.say(&format!("\n({:.1} s)\n{}", started.elapsed().as_secs_f64(), narrator.summary()));
    Ok(if narrator.all_held() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds the release binary and returns where it is.
///
/// # Errors
/// When it does not build.
pub fn build() -> Result<PathBuf> {
    println!("Building acorn (release).");
    workspace::run(workspace::cargo().args(["build", "--release", "--package", "acorn", "--locked", "--quiet"]))?;
    Ok(workspace::target().join("release/acorn"))
}

fn show_logs(narrator: &Narrator, world: &World) {
    for (name, lines) in world.logs(LOG_LINES) {
        if !lines.is_empty() {
            narrator.say(&format!("\n-- the last lines of {name} --\n{lines}"));
        }
    }
}

/// How a person gets into the world that stays, and how to end it.
fn look_around(world: &World, stage: &story::Stage) -> String {
    let pid = world.pid();
    let enter = world.entrance().join(" ");
    let commands = |daemon: &Acorn| {
        let name = daemon.namespace().name();
        let commands = if name == "root" { ["service ls", "node ls"] } else { ["status", "table"] };
        commands.map(|command| format!("ip netns exec {name} {}", daemon.command_line(command))).to_vec()
    };
    let daemons: Vec<String> = stage.daemons().flat_map(commands).collect();
    format!(
        "\nEverything is left running. Look around with a shell inside:\n    {enter}\n\
         and there:\n    \
         ip netns list\n    \
         ip netns exec client ping 10.30.0.1\n    \
         ip netns exec client curl http://10.30.0.1/\n    \
         ip netns exec wire tcpdump -n -i bridge\n    \
         {}\n    \
         tail -f /run/world/log/w1.log\n    \
         tail -f /run/world/log/board.log\n\
         Remove everything with:\n    kill -9 {pid}",
        daemons.join("\n    ")
    )
}
