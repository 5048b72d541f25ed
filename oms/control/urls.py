from django.urls import include, path

from oms.control import accounts, import_views, list_views, settings_views, views

screens = [
    path("", views.today, name="today"),
    path("exceptions/", views.exceptions, name="exceptions"),
    path("exceptions/act/", views.exceptions_act, name="exceptions-act"),
    path("search/", views.search, name="search"),
    path("lists/settings/", list_views.settings, name="list-settings"),
    path("lists/views/", list_views.save, name="view-save"),
    path("lists/views/<int:view_id>/", list_views.change, name="view-change"),
    path("warehouse/", list_views.warehouse, name="warehouse"),
    path("jobs/", views.job_list, name="jobs"),
    path("jobs/<int:job_id>/", views.job_detail, name="job"),
    path("jobs/<int:job_id>/stop/", views.job_stop, name="job-stop"),
    path("jobs/<int:job_id>/resume/", views.job_resume, name="job-resume"),
    path("audit/", views.audit, name="audit"),
    path("imports/", import_views.imports, name="imports"),
    path("imports/<int:file_id>/", import_views.import_detail, name="import"),
    path("imports/<int:file_id>/apply/", import_views.import_apply, name="import-apply"),
    path("imports/<int:file_id>/errors.csv", import_views.import_errors, name="import-errors"),
    path("imports/templates/<slug:kind>.csv", import_views.import_template, name="import-template"),
    path("settings/", settings_views.company, name="settings"),
    path("settings/users/", settings_views.users, name="users"),
    path("settings/users/<int:user_id>/", settings_views.user_detail, name="user"),
    path("settings/users/<int:user_id>/act/", settings_views.user_act, name="user-act"),
    path("settings/tokens/", settings_views.token_list, name="tokens"),
    path("settings/tokens/<int:token_id>/revoke/", settings_views.token_revoke, name="token-revoke"),
    path("settings/warehouses/", settings_views.warehouses, name="warehouses"),
    path("settings/system/", settings_views.system, name="system"),
    path("settings/system/verify/", settings_views.verify_audit, name="verify-audit"),
    path("profile/", accounts.profile, name="profile"),
    path("profile/save/", accounts.save_profile, name="profile-save"),
    path("profile/theme/", accounts.set_theme, name="theme"),
    path("profile/password/", accounts.change_password, name="password"),
    path("profile/sessions/", accounts.end_other_sessions, name="sessions"),
    path("profile/two-factor/", accounts.set_up_totp, name="totp"),
    path("profile/two-factor/off/", accounts.remove_totp, name="totp-off"),
    path("profile/two-factor/codes/", accounts.renew_codes, name="codes"),
]

urlpatterns = [
    path("", include((screens, "control"))),
    path("login/", accounts.log_in, name="login"),
    path("login/code/", accounts.second_factor, name="second-factor"),
    path("logout/", accounts.log_out, name="logout"),
]
