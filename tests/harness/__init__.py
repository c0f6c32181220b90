# SPDX-License-Identifier: GPL-3.0-or-later
"""What the scenarios of whole platforms share: run a playbook, reach a host, break it, watch it from outside."""
