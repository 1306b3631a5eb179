//! `mcp`: the bridge's MCP face for hosts that only speak MCP on standard input and output.

use std::io::IsTerminal as _;

use super::Desk;
use crate::ask::Ask;
use crate::bridge::segment;
use crate::failure::Failure;
use crate::options::Mcp;
use crate::pump;

/// Pumps until the host has enough.
///
/// # Errors
/// None of its own: what fails is told to the host.
pub(crate) async fn mcp(desk: &Desk, mcp: &Mcp) -> Result<(), Failure> {
    if std::io::stdin().is_terminal() {
        desk.output
            .note("waiting for MCP messages on standard input; a host starts this, see `connect`");
    }
    let path = match &mcp.server {
        Some(server) => format!("/mcp/{}", segment(server)),
        None => "/mcp".to_owned(),
    };
    let exposed = (!mcp.expose.is_empty()).then(|| mcp.expose.join(","));
    let place = Ask::get(path)
        .query("lane", mcp.lane.clone())
        .query("expose", exposed);
    pump::run(desk.bridge.clone(), place, desk.output.clone()).await;
    Ok(())
}
