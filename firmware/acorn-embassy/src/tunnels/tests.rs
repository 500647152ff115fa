//! Two and more nodes' tunnels, wired by a network in memory, on a clock that the test moves.

mod crowding;
mod garbage;
mod gate;
mod network;
mod replays;
mod restarts;
mod scripts;
mod sessions;
mod timers;
