//! Histories made by hand: the checker takes those that can be explained, and refuses the others for the right reason.

use super::check::counter_examples;
use super::model::{Action, Moment, Operation, Outcome, Password, SessionId};

/// The user of all histories here but one.
const USER: i64 = 1;

fn id(session: &str) -> SessionId {
    format!("{USER}.{session}").into()
}

fn ids(sessions: &[&str]) -> Vec<SessionId> {
    sessions.iter().map(|session| id(session)).collect()
}

/// An operation from one millisecond to another. No millisecond may be used twice in a history.
fn operation(call: u64, answer: u64, action: Action, outcome: Outcome) -> Operation {
    Operation {
        user: USER,
        client: 0,
        instance: 0,
        action,
        call: Moment::by_hand(call),
        answer: Moment::by_hand(answer),
        outcome,
    }
}

/// An operation whose client leaves before the answer.
fn left(call: u64, operation: Operation) -> Operation {
    Operation {
        call: Moment::by_hand(call),
        answer: Moment::NEVER,
        outcome: Outcome::Unknown,
        ..operation
    }
}

/// An operation that is answered with 503.
fn failed(operation: Operation) -> Operation {
    Operation {
        outcome: Outcome::Unknown,
        ..operation
    }
}

fn log_in_with(password: Password, call: u64, answer: u64, session: &str) -> Operation {
    let outcome = Outcome::Token(id(session));
    operation(call, answer, Action::LogIn { password }, outcome)
}

fn log_in(call: u64, answer: u64, session: &str) -> Operation {
    log_in_with(0, call, answer, session)
}

fn turned_away(password: Password, call: u64, answer: u64) -> Operation {
    let action = Action::LogIn { password };
    operation(call, answer, action, Outcome::Refused)
}

fn alive(call: u64, answer: u64, session: &str) -> Operation {
    let by = id(session);
    operation(call, answer, Action::Check { by }, Outcome::User(USER))
}

fn dead(call: u64, answer: u64, session: &str) -> Operation {
    let by = id(session);
    operation(call, answer, Action::Check { by }, Outcome::Refused)
}

fn log_out(call: u64, answer: u64, session: &str) -> Operation {
    let by = id(session);
    operation(call, answer, Action::LogOut { by }, Outcome::Done)
}

fn end(call: u64, answer: u64, by: &str, session: &str, outcome: Outcome) -> Operation {
    let (by, session) = (id(by), id(session));
    operation(call, answer, Action::End { by, session }, outcome)
}

fn end_all(call: u64, answer: u64, by: &str) -> Operation {
    let (by, keep) = (id(by), false);
    operation(call, answer, Action::EndAll { by, keep }, Outcome::Done)
}

fn end_others(call: u64, answer: u64, by: &str) -> Operation {
    let (by, keep) = (id(by), true);
    operation(call, answer, Action::EndAll { by, keep }, Outcome::Done)
}

/// A list that is asked for by the first session that it shows.
fn list(call: u64, answer: u64, shows: &[&str]) -> Operation {
    let (by, all) = (id(shows[0]), ids(shows));
    let current = vec![by.clone()];
    let outcome = Outcome::Sessions { all, current };
    operation(call, answer, Action::List { by }, outcome)
}

fn change(call: u64, answer: u64, by: &str, from: Password, to: Password) -> Operation {
    let by = id(by);
    let action = Action::ChangePassword { by, from, to };
    operation(call, answer, action, Outcome::Done)
}

fn disable(call: u64, answer: u64) -> Operation {
    operation(call, answer, Action::Disable, Outcome::Done)
}

fn enable(call: u64, answer: u64, password: Password) -> Operation {
    operation(call, answer, Action::Enable { password }, Outcome::Done)
}

#[track_caller]
fn good(history: &[Operation]) {
    let found = counter_examples(history, None);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// There is a counter-example, and the first says this.
#[track_caller]
fn bad(history: &[Operation], reason: &str) {
    let found = counter_examples(history, None);
    let first = found.first().expect("a counter-example");
    assert!(first.contains(reason), "{}", found.join("\n"));
}

const ALIVE_THOUGH_DEAD: &str = "it has to be dead from";
const ENDED_BY_NOTHING: &str = "and nothing did that";
const NOT_GOOD: &str = "before it is set, or after it was replaced";
const IS_GOOD: &str = "a password that is good is refused";

#[test]
fn a_session_lives_until_it_is_ended() {
    good(&[
        log_in(1, 2, "a"),
        alive(3, 4, "a"),
        log_in(5, 6, "b"),
        list(7, 8, &["b", "a"]),
        log_out(9, 10, "a"),
        dead(11, 12, "a"),
        list(13, 14, &["b"]),
        end(15, 16, "b", "a", Outcome::NotFound),
        end(17, 18, "b", "b", Outcome::Done),
        dead(19, 20, "b"),
        log_in(21, 22, "c"),
        alive(23, 24, "c"),
    ]);
}

#[test]
fn what_runs_beside_a_log_out_may_see_the_session_before_or_after() {
    good(&[
        log_in(1, 2, "a"),
        log_in(3, 4, "b"),
        log_out(10, 20, "a"),
        alive(11, 12, "a"),
        list(13, 14, &["b", "a"]),
        dead(15, 16, "a"),
        list(17, 18, &["b"]),
    ]);
    bad(
        &[
            log_in(1, 2, "a"),
            log_out(10, 20, "a"),
            dead(11, 12, "a"),
            alive(13, 14, "a"),
        ],
        ALIVE_THOUGH_DEAD,
    );
}

#[test]
fn a_token_does_not_come_back() {
    let revived = [
        log_in(1, 2, "a"),
        failed(log_out(3, 4, "a")),
        dead(5, 6, "a"),
        alive(7, 8, "a"),
    ];
    bad(&revived, ALIVE_THOUGH_DEAD);
    let found = &counter_examples(&revived, None)[0];
    let lines: Vec<&str> = found.lines().map(str::trim).collect();
    assert_eq!(
        lines,
        [
            "session 1.a of user 1: it has to be dead from 6.000 ms on, and was alive after 7.000 ms",
            "1.000 ms to       2.000 ms  client  0 at instance 0, user 1: log in with password 0 -> token of 1.a",
            "5.000 ms to       6.000 ms  client  0 at instance 0, user 1: check 1.a -> 401",
            "7.000 ms to       8.000 ms  client  0 at instance 0, user 1: check 1.a -> user 1",
        ]
    );

    bad(
        &[log_in(1, 2, "a"), log_out(3, 4, "a"), alive(5, 6, "a")],
        ALIVE_THOUGH_DEAD,
    );
}

#[test]
fn a_session_does_not_end_by_itself() {
    bad(&[log_in(1, 2, "a"), dead(3, 4, "a")], ENDED_BY_NOTHING);
    bad(
        &[log_in(1, 2, "a"), log_in(3, 4, "b"), list(5, 6, &["b"])],
        ENDED_BY_NOTHING,
    );
    // Who was told that nothing was ended has ended nothing.
    bad(
        &[
            log_in(1, 2, "a"),
            log_in(3, 4, "b"),
            end(5, 6, "b", "a", Outcome::NotFound),
        ],
        ENDED_BY_NOTHING,
    );
    // What ended before the last that saw it alive was something else.
    bad(
        &[
            log_in(1, 2, "a"),
            log_in(3, 4, "b"),
            failed(end_all(5, 6, "b")),
            log_in(7, 8, "c"),
            dead(9, 10, "c"),
        ],
        ENDED_BY_NOTHING,
    );
}

#[test]
fn one_log_out_alone_ends_a_session() {
    bad(
        &[log_in(1, 2, "a"), log_out(3, 10, "a"), log_out(4, 9, "a")],
        "two log-outs were told to have ended it",
    );
    bad(
        &[
            log_in(1, 2, "a"),
            log_in(3, 4, "b"),
            end_all(5, 6, "b"),
            log_out(7, 8, "a"),
        ],
        ALIVE_THOUGH_DEAD,
    );
    // Beside each other, the log-out may come first.
    good(&[
        log_in(1, 2, "a"),
        log_in(3, 4, "b"),
        end_all(5, 10, "b"),
        log_out(6, 9, "a"),
    ]);
}

#[test]
fn whoever_ends_a_session_by_its_id_found_it_alive() {
    let two = [log_in(1, 2, "a"), log_in(3, 4, "b")];
    let end = |call, answer| end(call, answer, "b", "a", Outcome::Done);
    good(&[&two[..], &[end(5, 6), dead(7, 8, "a")]].concat());
    bad(
        &[&two[..], &[end(5, 6), alive(7, 8, "a")]].concat(),
        ALIVE_THOUGH_DEAD,
    );
    bad(
        &[&two[..], &[log_out(5, 6, "a"), end(7, 8)]].concat(),
        ALIVE_THOUGH_DEAD,
    );
    good(&[&two[..], &[log_out(5, 10, "a"), end(6, 9)]].concat());
    // A second try is told the same.
    good(&[&two[..], &[end(5, 6), end(7, 8)]].concat());
    good(&[&two[..], &[failed(end(5, 6)), dead(7, 8, "a"), end(9, 10)]].concat());
}

#[test]
fn an_end_of_all_ends_all_that_was_there() {
    good(&[
        log_in(1, 2, "a"),
        log_in(3, 4, "b"),
        end_all(5, 6, "b"),
        dead(7, 8, "a"),
        dead(9, 10, "b"),
    ]);
    bad(
        &[
            log_in(1, 2, "a"),
            log_in(3, 4, "b"),
            end_all(5, 6, "b"),
            alive(7, 8, "a"),
        ],
        ALIVE_THOUGH_DEAD,
    );
    bad(
        &[
            log_in(1, 2, "a"),
            log_in(3, 4, "b"),
            end_all(5, 6, "b"),
            log_in(7, 8, "c"),
            list(9, 10, &["c", "a"]),
        ],
        ALIVE_THOUGH_DEAD,
    );
    // The one who asked for it, too.
    bad(
        &[log_in(1, 2, "a"), end_all(3, 4, "a"), alive(5, 6, "a")],
        ALIVE_THOUGH_DEAD,
    );
}

#[test]
fn an_end_of_all_others_spares_one() {
    good(&[
        log_in(1, 2, "a"),
        log_in(3, 4, "b"),
        end_others(5, 6, "b"),
        dead(7, 8, "a"),
        alive(9, 10, "b"),
    ]);
    bad(
        &[log_in(1, 2, "a"), end_others(3, 4, "a"), dead(5, 6, "a")],
        ENDED_BY_NOTHING,
    );
}

#[test]
fn an_end_of_all_takes_each_session_at_a_moment_of_its_own() {
    good(&[
        log_in(1, 2, "a"),
        log_in(3, 4, "b"),
        log_in(5, 6, "c"),
        end_all(10, 30, "c"),
        dead(11, 12, "a"),
        alive(13, 14, "b"),
        list(15, 16, &["c", "b"]),
        dead(17, 18, "b"),
        alive(19, 20, "c"),
    ]);
}

#[test]
fn a_log_in_beside_an_end_of_all_may_live_or_die() {
    let beside = [log_in(1, 2, "a"), end_all(5, 10, "a"), log_in(4, 11, "b")];
    good(&[&beside[..], &[alive(12, 13, "b")]].concat());
    good(&[&beside[..], &[dead(12, 13, "b")]].concat());
    // But not both.
    bad(
        &[&beside[..], &[alive(12, 13, "b"), dead(14, 15, "b")]].concat(),
        ENDED_BY_NOTHING,
    );
    // It was there before the end of all was asked for, though its client did not know yet.
    bad(
        &[
            log_in(1, 2, "a"),
            log_in(3, 20, "b"),
            list(4, 5, &["a", "b"]),
            end_all(6, 10, "a"),
            alive(21, 22, "b"),
        ],
        ALIVE_THOUGH_DEAD,
    );
}

#[test]
fn a_log_in_after_an_end_of_all_is_not_concerned() {
    bad(
        &[
            log_in(1, 2, "a"),
            end_all(3, 4, "a"),
            log_in(5, 6, "b"),
            dead(7, 8, "b"),
        ],
        ENDED_BY_NOTHING,
    );
}

#[test]
fn what_failed_may_have_been_done_or_not_or_be_done_later() {
    let unknown = [log_in(1, 2, "a"), failed(log_out(3, 4, "a"))];
    good(&[&unknown[..], &[alive(5, 6, "a")]].concat());
    good(&[&unknown[..], &[dead(5, 6, "a")]].concat());
    good(&[&unknown[..], &[alive(5, 6, "a"), dead(7, 8, "a")]].concat());
    good(&[&unknown[..], &[alive(5, 6, "a"), log_out(7, 8, "a")]].concat());
    bad(
        &[&unknown[..], &[dead(5, 6, "a"), alive(7, 8, "a")]].concat(),
        ALIVE_THOUGH_DEAD,
    );

    let unknown = [
        log_in(1, 2, "a"),
        log_in(3, 4, "b"),
        failed(end(5, 6, "b", "a", Outcome::Done)),
    ];
    good(&[&unknown[..], &[alive(7, 8, "a"), dead(9, 10, "a")]].concat());

    let unknown = [
        log_in(1, 2, "a"),
        log_in(3, 4, "b"),
        failed(end_all(5, 6, "b")),
    ];
    good(&[&unknown[..], &[dead(7, 8, "a"), alive(9, 10, "b")]].concat());
    good(&[&unknown[..], &[alive(7, 8, "a"), dead(9, 10, "a")]].concat());

    // Without an answer, nobody knows when the service is done with it.
    good(&[
        log_in(1, 2, "a"),
        left(3, end_all(0, 0, "a")),
        log_in(5, 6, "b"),
        dead(7, 8, "b"),
    ]);
}

#[test]
fn an_answer_that_does_not_come_says_nothing() {
    good(&[
        log_in(1, 2, "a"),
        log_out(3, 4, "a"),
        failed(alive(5, 6, "a")),
        left(7, list(0, 0, &["a"])),
    ]);
}

#[test]
fn a_list_shows_what_is_there() {
    bad(
        &[
            log_in(1, 2, "a"),
            log_in(3, 4, "b"),
            log_out(5, 6, "a"),
            list(7, 8, &["b", "a"]),
        ],
        ALIVE_THOUGH_DEAD,
    );
    bad(
        &[
            log_in(1, 2, "a"),
            log_in(3, 4, "b"),
            list(5, 6, &["b"]),
            alive(7, 8, "a"),
        ],
        ALIVE_THOUGH_DEAD,
    );
    // A log-in that runs beside it is there or not.
    good(&[
        log_in(1, 2, "a"),
        log_in(3, 20, "b"),
        list(4, 5, &["a"]),
        list(6, 7, &["a", "b"]),
        alive(21, 22, "b"),
    ]);
    bad(
        &[
            log_in(1, 2, "a"),
            log_in(3, 20, "b"),
            list(4, 5, &["a", "b"]),
            list(6, 7, &["a"]),
        ],
        ENDED_BY_NOTHING,
    );
    bad(
        &[
            log_in(1, 2, "a"),
            list(3, 4, &["a", "b"]),
            log_in(5, 6, "b"),
        ],
        "it is there before its log-in",
    );
}

#[test]
fn a_list_knows_whose_it_is() {
    let shows = |all: &[&str], current: &[&str]| {
        let outcome = Outcome::Sessions {
            all: ids(all),
            current: ids(current),
        };
        let by = id("a");
        [
            log_in(1, 2, "a"),
            log_in(3, 4, "b"),
            operation(5, 6, Action::List { by }, outcome),
        ]
    };
    good(&shows(&["a", "b"], &["a"]));
    bad(
        &shows(&["a", "b"], &["b"]),
        "takes another session for the client's own",
    );
    bad(
        &shows(&["a", "b"], &[]),
        "does not know the client's own session",
    );
    bad(&shows(&["a", "b", "a"], &["a"]), "shows a session twice");
    let mut history = shows(&["a", "b"], &["a"]);
    if let Outcome::Sessions { all, .. } = &mut history[2].outcome {
        all.push("2.c".into());
    }
    let found = counter_examples(&history, None);
    assert!(
        found[0].contains("a list shows a session of somebody else"),
        "{found:?}"
    );
}

#[test]
fn a_session_that_nobody_was_told_of_has_a_log_in_too() {
    bad(
        &[log_in(1, 2, "a"), list(3, 4, &["a", "x"])],
        "no log-in explains it",
    );
    // Its client left, or got 503. It may end as it likes, but not come back.
    for unknown in [left(3, log_in(0, 0, "")), failed(log_in(3, 4, ""))] {
        let history = [log_in(1, 2, "a"), unknown, list(5, 6, &["a", "x"])];
        good(&[&history[..], &[list(7, 8, &["a"])]].concat());
        bad(
            &[
                &history[..],
                &[list(7, 8, &["a"]), list(9, 10, &["a", "x"])],
            ]
            .concat(),
            ALIVE_THOUGH_DEAD,
        );
        bad(
            &[
                &history[..],
                &[
                    end_all(7, 8, "a"),
                    log_in(9, 10, "b"),
                    list(11, 12, &["b", "x"]),
                ],
            ]
            .concat(),
            ALIVE_THOUGH_DEAD,
        );
    }
    // The first attempt of a log-in that lost against an end of all: there, while one of them runs.
    let history = [log_in(1, 2, "a"), log_in(3, 15, "b"), end_all(5, 20, "a")];
    good(&[&history[..], &[list(16, 17, &["b", "x"])]].concat());
    bad(
        &[&history[..], &[list(21, 22, &["b", "x"])]].concat(),
        "no log-in explains it",
    );
}

#[test]
fn nobody_has_to_do_with_sessions_of_somebody_else() {
    let of_other = |call, answer, action, outcome| Operation {
        user: 2,
        ..operation(call, answer, action, outcome)
    };
    let other: SessionId = "2.b".into();
    let history = |outcome| {
        let action = Action::End {
            by: other.clone(),
            session: id("a"),
        };
        let log_in = Action::LogIn { password: 0 };
        [
            log_in_with(0, 1, 2, "a"),
            of_other(3, 4, log_in, Outcome::Token(other.clone())),
            of_other(5, 6, action, outcome),
            alive(7, 8, "a"),
        ]
    };
    good(&history(Outcome::NotFound));
    good(&history(Outcome::Unknown));
    bad(
        &history(Outcome::Done),
        "somebody ended a session of somebody else",
    );

    let by = id("a");
    bad(
        &[
            log_in(1, 2, "a"),
            operation(3, 4, Action::Check { by }, Outcome::User(2)),
        ],
        "a token of one user is taken for another's",
    );
    // What one user ends does not end what another has.
    let by = other.clone();
    let keep = false;
    let log_in_of_other = of_other(
        3,
        4,
        Action::LogIn { password: 0 },
        Outcome::Token(other.clone()),
    );
    let all = of_other(5, 6, Action::EndAll { by, keep }, Outcome::Done);
    bad(
        &[log_in(1, 2, "a"), log_in_of_other, all, dead(7, 8, "a")],
        ENDED_BY_NOTHING,
    );
}

#[test]
fn an_answer_is_one_of_the_contract() {
    let by = id("a");
    let check = |outcome| operation(3, 4, Action::Check { by: by.clone() }, outcome);
    bad(
        &[
            log_in(1, 2, "a"),
            check(Outcome::Unexpected("500".to_owned())),
        ],
        "an answer that the contract does not know",
    );
    let odd = [log_in(1, 2, "a"), check(Outcome::NotFound)];
    let found = counter_examples(&odd, None);
    assert!(
        found[0].contains("does not belong to the question"),
        "{found:?}"
    );
    bad(
        &[log_in(1, 2, "a"), log_in(3, 4, "a")],
        "two log-ins gave the same session",
    );
}

#[test]
fn a_change_of_the_password_ends_all_others() {
    let history = [
        log_in(1, 2, "a"),
        log_in(3, 4, "b"),
        change(5, 6, "a", 0, 1),
    ];
    good(&[&history[..], &[alive(7, 8, "a"), dead(9, 10, "b")]].concat());
    bad(
        &[&history[..], &[alive(7, 8, "b")]].concat(),
        ALIVE_THOUGH_DEAD,
    );
    bad(
        &[&history[..], &[dead(7, 8, "a")]].concat(),
        ENDED_BY_NOTHING,
    );
}

#[test]
fn whoever_knows_the_old_password_is_out_when_it_is_changed() {
    // Answered later than the change, but let in with the old password: it is dead.
    let history = [
        log_in(1, 2, "a"),
        log_in(4, 20, "b"),
        change(5, 10, "a", 0, 1),
    ];
    good(&[&history[..], &[dead(21, 22, "b")]].concat());
    bad(
        &[&history[..], &[alive(21, 22, "b")]].concat(),
        ALIVE_THOUGH_DEAD,
    );
    // With the new one it lives, unless it ran beside the change.
    let history = [log_in(1, 2, "a"), change(5, 10, "a", 0, 1)];
    good(
        &[
            &history[..],
            &[log_in_with(1, 6, 20, "b"), alive(21, 22, "b")],
        ]
        .concat(),
    );
    good(
        &[
            &history[..],
            &[log_in_with(1, 6, 20, "b"), dead(21, 22, "b")],
        ]
        .concat(),
    );
    bad(
        &[
            &history[..],
            &[log_in_with(1, 11, 20, "b"), dead(21, 22, "b")],
        ]
        .concat(),
        ENDED_BY_NOTHING,
    );
}

#[test]
fn a_password_is_good_from_one_change_to_the_next() {
    let history = [log_in(1, 2, "a"), change(10, 20, "a", 0, 1)];
    good(
        &[
            &history[..],
            &[turned_away(1, 5, 15), turned_away(0, 16, 22)],
        ]
        .concat(),
    );
    good(
        &[
            &history[..],
            &[turned_away(1, 5, 12), turned_away(7, 31, 32)],
        ]
        .concat(),
    );
    for (login, reason) in [
        (log_in_with(1, 3, 4, "b"), NOT_GOOD),
        (log_in_with(0, 21, 22, "b"), NOT_GOOD),
        (turned_away(0, 3, 4), IS_GOOD),
        (turned_away(1, 21, 22), IS_GOOD),
        (
            log_in_with(7, 21, 22, "b"),
            "a password that was never set is good",
        ),
    ] {
        bad(&[&history[..], &[login]].concat(), reason);
    }
    // The same is said by who wants to change it.
    let wrong = |call, answer, from| Operation {
        outcome: Outcome::WrongPassword,
        ..change(call, answer, "a", from, 2)
    };
    good(&[&history[..], &[wrong(15, 22, 0), wrong(23, 24, 0)]].concat());
    bad(&[&history[..], &[wrong(21, 22, 1)]].concat(), IS_GOOD);
    // It happened at one moment, for all.
    bad(
        &[
            &history[..],
            &[turned_away(0, 11, 12), turned_away(1, 13, 14)],
        ]
        .concat(),
        IS_GOOD,
    );
    bad(
        &[
            &history[..],
            &[log_in_with(1, 11, 12, "b"), log_in_with(0, 13, 14, "c")],
        ]
        .concat(),
        NOT_GOOD,
    );
}

#[test]
fn nobody_logs_in_while_the_user_is_disabled() {
    let history = [
        log_in(1, 2, "a"),
        disable(10, 11),
        enable(20, 21, 1),
        log_in_with(1, 30, 31, "b"),
    ];
    good(&[&history[..], &[dead(12, 13, "a"), turned_away(0, 14, 15)]].concat());
    bad(
        &[&history[..], &[alive(12, 13, "a")]].concat(),
        ALIVE_THOUGH_DEAD,
    );
    bad(
        &[&history[..], &[log_in(12, 13, "c"), dead(14, 15, "c")]].concat(),
        NOT_GOOD,
    );
    // Let in just before, answered later: dead.
    bad(
        &[&history[..], &[log_in(9, 13, "c"), alive(14, 15, "c")]].concat(),
        ALIVE_THOUGH_DEAD,
    );
}

#[test]
fn a_change_that_failed_may_have_been_made_or_not() {
    let history = [
        log_in(1, 2, "a"),
        log_in(3, 4, "b"),
        failed(change(10, 20, "a", 0, 1)),
    ];
    good(
        &[
            &history[..],
            &[log_in_with(1, 21, 22, "c"), dead(30, 31, "c")],
        ]
        .concat(),
    );
    good(
        &[
            &history[..],
            &[log_in_with(0, 21, 22, "c"), dead(30, 31, "b")],
        ]
        .concat(),
    );
    good(&[&history[..], &[turned_away(0, 21, 22), alive(30, 31, "b")]].concat());
    good(&[&history[..], &[turned_away(1, 21, 22)]].concat());
    bad(
        &[
            &history[..],
            &[log_in_with(1, 21, 22, "c"), log_in_with(0, 23, 24, "d")],
        ]
        .concat(),
        NOT_GOOD,
    );
    bad(
        &[
            &history[..],
            &[turned_away(0, 21, 22), turned_away(1, 23, 24)],
        ]
        .concat(),
        IS_GOOD,
    );
}

#[test]
fn the_oldest_session_goes_when_there_are_too_many() {
    let found = |history: &[Operation]| counter_examples(history, Some(2));
    let three = [log_in(1, 2, "a"), log_in(3, 4, "b"), log_in(5, 6, "c")];
    let history = [&three[..], &[dead(7, 8, "a"), alive(9, 10, "b")]].concat();
    assert_eq!(found(&history), [""; 0]);
    let history = [&three[..], &[alive(7, 8, "a"), dead(9, 10, "b")]].concat();
    let reasons = found(&history);
    assert!(reasons[0].contains(ENDED_BY_NOTHING), "{reasons:?}");
    let history = [&three[..], &[list(7, 8, &["c", "b", "a"])]].concat();
    let reasons = found(&history);
    assert!(
        reasons[0].contains("a list shows more than 2 sessions"),
        "{reasons:?}"
    );
    // While the third runs there may be three.
    let history = [
        log_in(1, 2, "a"),
        log_in(3, 4, "b"),
        log_in(5, 10, "c"),
        list(6, 7, &["b", "c", "a"]),
    ];
    assert_eq!(found(&history), [""; 0]);
}
