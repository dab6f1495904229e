//! What is done to users by others: the last administrator, and the audit trail.

use claviger::store::StoreError;
use claviger::store::audit::{Audit, AuditEvent, Author};
use claviger::store::revocations::{Revocation, Revocations};
use claviger::store::users::{Applied, NewUser, UserChange, Users};
use rstest::rstest;
use secrecy::SecretString;
use tokio::task::JoinSet;

use super::{named, users};
use crate::common::{Backend, TestDatabase};

async fn admin(users: &Users, name: &str) -> i64 {
    let new = NewUser {
        is_admin: true,
        ..named(name)
    };
    users.create(new, &Author::command()).await.unwrap().id
}

async fn trail(database: &TestDatabase) -> Vec<AuditEvent> {
    Audit::new(database.connect().await)
        .list(None, 200)
        .await
        .unwrap()
}

fn disabled() -> UserChange {
    UserChange {
        disabled: Some(true),
        ..UserChange::default()
    }
}

async fn apply(users: &Users, id: i64, change: &UserChange) -> Applied {
    let author = Author::user(7, Some([192, 0, 2, 1].into()), Some("id".to_owned()));
    users.apply(id, change, None, &author).await.unwrap()
}

#[rstest]
#[tokio::test]
async fn the_last_admin_stays(#[values(Backend::Embedded, Backend::External)] backend: Backend) {
    let (database, users) = users(backend).await;
    let root = admin(&users, "root").await;
    let other = admin(&users, "other").await;
    let demoted = UserChange {
        is_admin: Some(false),
        ..UserChange::default()
    };
    // One who is disabled is none to rely on.
    assert!(matches!(
        apply(&users, other, &disabled()).await,
        Applied::Done(_)
    ));
    for change in [disabled(), demoted.clone()] {
        assert!(matches!(
            apply(&users, root, &change).await,
            Applied::LastAdmin
        ));
    }
    let revocation = Revocation::of_user(root);
    let removed = users.remove(root, &revocation, &Author::command()).await;
    assert!(matches!(removed, Ok(Applied::LastAdmin)));
    let unchanged = users.find_by_id(root).await.unwrap().unwrap();
    assert!(unchanged.is_admin && unchanged.disabled_at.is_none());
    let promises = Revocations::new(database.connect().await);
    assert_eq!(promises.pending(10, 0).await.unwrap(), []);

    // Others can still be demoted and removed, and so can root as soon as somebody else is there.
    assert!(matches!(
        apply(&users, other, &demoted).await,
        Applied::Done(_)
    ));
    let again = UserChange {
        is_admin: Some(true),
        disabled: Some(false),
        ..UserChange::default()
    };
    assert!(matches!(
        apply(&users, other, &again).await,
        Applied::Done(_)
    ));
    let removed = users.remove(root, &revocation, &Author::command()).await;
    assert!(matches!(removed, Ok(Applied::Done(user)) if user.username == "root"));
    assert_eq!(promises.pending(10, 0).await.unwrap(), [revocation]);
}

/// Each of them is still there when the other one is asked for.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_who_remove_each_other(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let (database, users) = users(backend).await;
    for round in 0..10 {
        let pair = [
            admin(&users, &format!("a{round}")).await,
            admin(&users, &format!("b{round}")).await,
        ];
        let mut race = JoinSet::new();
        for (turn, id) in pair.into_iter().enumerate() {
            let users = Users::new(database.connect().await);
            race.spawn(async move {
                let author = Author::command();
                if turn == round % 2 {
                    let revocation = Revocation::of_user(id);
                    users.remove(id, &revocation, &author).await.unwrap()
                } else {
                    users.apply(id, &disabled(), None, &author).await.unwrap()
                }
            });
        }
        let outcomes = race.join_all().await;
        let refused = |outcome: &&Applied| matches!(outcome, Applied::LastAdmin);
        assert_eq!(outcomes.iter().filter(refused).count(), 1, "{outcomes:?}");
        let mut left = users.list(0, 500).await.unwrap();
        left.retain(|user| user.is_admin && user.disabled_at.is_none());
        assert_eq!(left.len(), 1);
        users_by_hand(&database, "UPDATE users SET is_admin = false").await;
    }
}

/// Security checklist, 37.
#[rstest]
#[tokio::test]
async fn what_is_done_is_written_with_it(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let (database, users) = users(backend).await;
    let root = admin(&users, "root").await;
    let author = Author::user(root, Some([192, 0, 2, 1].into()), Some("id".to_owned()));
    let alice = users.create(named("alice"), &author).await.unwrap().id;
    let all = UserChange {
        username: Some("alicia".to_owned()),
        password_hash: Some(SecretString::from("$argon2id$other")),
        is_admin: Some(true),
        disabled: Some(true),
    };
    for _ in 0..2 {
        // The second time only the password is another one.
        let applied = apply(&users, alice, &all).await;
        assert!(matches!(applied, Applied::Done(user) if user.username == "alicia"));
    }
    let taken = UserChange {
        username: Some("root".to_owned()),
        disabled: Some(false),
        ..UserChange::default()
    };
    let outcome = users.apply(alice, &taken, None, &author).await;
    assert!(matches!(outcome, Err(StoreError::Conflict)));
    let revocation = Revocation::of_user(alice);
    users.remove(alice, &revocation, &author).await.unwrap();
    let gone = users.remove(alice, &revocation, &author).await;
    assert!(matches!(gone, Ok(Applied::NotFound)));
    assert!(matches!(
        apply(&users, alice, &all).await,
        Applied::NotFound
    ));

    let trail = trail(&database).await;
    let told: Vec<(Option<i64>, &str, Option<i64>)> = trail
        .iter()
        .map(|event| (event.actor_id, event.action.as_str(), event.subject_id))
        .collect();
    let of_alice = |actor: i64, action| (Some(actor), action, Some(alice));
    assert_eq!(
        told,
        [
            of_alice(root, "user-deleted"),
            of_alice(7, "password-reset"),
            of_alice(7, "user-disabled"),
            of_alice(7, "password-reset"),
            of_alice(7, "user-changed"),
            of_alice(root, "user-created"),
            (None, "user-created", Some(root)),
        ]
    );
    assert_eq!(trail[0].address.as_deref(), Some("192.0.2.1"));
    assert_eq!(trail[0].request_id.as_deref(), Some("id"));
    assert_eq!(
        (&*trail[0].origin, &*trail[0].outcome, &*trail[6].origin),
        ("api", "ok", "command")
    );
    // No name, and nothing of a password.
    let text = format!("{trail:?}");
    assert!(!text.contains("ali") && !text.contains("argon2"), "{text}");
    let audit = Audit::new(database.connect().await);
    assert_eq!(audit.list(Some(trail[1].id), 2).await.unwrap(), trail[2..4]);
}

async fn users_by_hand(database: &TestDatabase, sql: &str) {
    let db = database.connect().await;
    sea_orm::ConnectionTrait::execute_unprepared(&db, sql)
        .await
        .unwrap();
}
