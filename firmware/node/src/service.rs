//! The instance that the node is.

use acorn_core::ServiceName;
use acorn_embassy::{AttachError, Overlay};
use embassy_time::{Duration, Timer};

/// The pause after a first refusal; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Keeps the node attached: as an instance of its service, or as itself when it serves none.
#[embassy_executor::task]
pub(crate) async fn attach(overlay: Overlay<'static>, service: Option<ServiceName>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let attached = match &service {
            Some(name) => overlay.attach(name.as_str()).await,
            None => overlay.attach_node().await,
        };
        match attached {
            Ok(instance) => {
                pause = FIRST_PAUSE;
                let ([a, b, c, d], [e, f, g, h]) = (instance.instance_ip.octets(), instance.namespace_ip.octets());
                defmt::info!(
                    "attached as instance {=u32}: instance IP {=u8}.{=u8}.{=u8}.{=u8}, namespace IP {=u8}.{=u8}.{=u8}.{=u8}",
                    instance.id.number,
                    a,
                    b,
                    c,
                    d,
                    e,
                    f,
                    g,
                    h
                );
                overlay.lost().await;
                defmt::warn!("the instance was lost: attaching again");
            }
            Err(AttachError::Refused(refusal)) => {
                let text = match refusal {
                    acorn_embassy::Refusal::NoSuchService => "there is no service of this name: create it at the root",
                    _ => "the manager refuses the instance",
                };
                defmt::warn!("not attached: {=str}; again in {=u64} s", text, pause.as_secs());
            }
            Err(_) => defmt::warn!("not attached; again in {=u64} s", pause.as_secs()),
        }
        Timer::after(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
