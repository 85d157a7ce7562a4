from swarmrun.agents.roles import roles
from swarmrun.api.swarmclass import DEFAULT_ROLES, AgentRole


def test_the_tier_in_a_roles_file_is_the_one_that_a_class_defaults_to():
    assert {AgentRole(r.name): r.tier for r in roles().values()} == {
        r: t.value for r, t in DEFAULT_ROLES.items()
    }
