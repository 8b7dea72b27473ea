from mitosis.nats.credentials import ServiceLogin
from mitosis.nats.failures import _who


def test_a_refused_service_is_told_the_settings_that_its_own_name_came_from() -> None:
    assert _who(ServiceLogin("a", "secret")) == "user 'a': check nats_user and nats_password"
    system = ServiceLogin("b", "secret", "nats_system_user and nats_system_password")
    assert _who(system) == "user 'b': check nats_system_user and nats_system_password"
