//! Pins: what was seen first stays, what was approved takes its place.

use broker::store::{PinPlace, PinRow};
use chrono::Utc;
use transports::ServerName;

use crate::places::{on_both, workspace};

fn pin(scope: &str, tool: &str, hash: char) -> PinRow {
    PinRow {
        place: PinPlace {
            workspace: workspace(),
            server: ServerName::new("git").unwrap(),
            scope: scope.to_owned(),
        },
        tool: tool.to_owned(),
        hash: hash.to_string().repeat(64),
        hints: 5,
        definition: format!("{{\"name\":\"{tool}\",\"is\":\"{hash}\"}}"),
        approved_by: None,
        pinned_at: Utc::now(),
    }
}

#[tokio::test]
async fn a_first_pin_stays_until_another_is_approved() {
    on_both(async |store, _| {
        let many: Vec<PinRow> = (0..450)
            .map(|number| pin("", &format!("t{number}"), 'a'))
            .collect();
        store.add_pins(&many).await.unwrap();
        // Seen again, and differently; and the same tool of somebody's own agent.
        store.add_pins(&[pin("", "t7", 'b')]).await.unwrap();
        store
            .add_pins(&[pin("ann laptop", "t7", 'c')])
            .await
            .unwrap();
        let mut pins = store.load_pins().await.unwrap();
        assert_eq!(pins.len(), 451);
        pins.retain(|one| one.tool == "t7");
        pins.sort_by(|one, other| one.hash.cmp(&other.hash));
        let hashes: Vec<_> = pins.iter().map(|one| &one.hash[..1]).collect();
        assert_eq!(hashes, ["a", "c"]);
        assert_eq!((pins[0].hints, &pins[0].approved_by), (5, &None));
        let approved = PinRow {
            approved_by: Some("root".to_owned()),
            ..pin("", "t7", 'b')
        };
        store.replace_pin(&approved).await.unwrap();
        let definition = store
            .pinned_definition(&approved.place, "t7")
            .await
            .unwrap();
        assert_eq!(definition.as_ref(), Some(&approved.definition));
        let pins = store.load_pins().await.unwrap();
        let now = pins
            .iter()
            .find(|one| one.tool == "t7" && one.place.scope.is_empty());
        assert_eq!(now.unwrap().approved_by.as_deref(), Some("root"));
        let none = store.pinned_definition(&approved.place, "t9999").await;
        assert_eq!(none.unwrap(), None);
    })
    .await;
}
